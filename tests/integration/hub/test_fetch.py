"""The real huggingface_hub client and the range client against a hub on the loopback address."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session

from g4cli.core.errors import (
    BadFile,
    G4Error,
    HashMismatch,
    Interrupted,
    NetworkError,
    NotFound,
    UsageError,
)
from g4cli.core.paths import hub_cache_dir
from g4cli.hub import Fetch, Fetched, Hub, RemoteFile, reuse
from g4cli.hub.client import HubOptions
from g4cli.hub.connection import load_certificates
from g4cli.hub.fetch import find_partials
from g4cli.hub.journal import Goal, Partial
from g4cli.hub.transfer import Limits
from tests.support.builders.gguf import BF16, build_gguf, gemma4_keys
from tests.support.fakes.hub import FakeHub, FakeRepo, Fault, running

DATA = random.Random(1).randbytes(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()
FAST = Limits(
    piece_bytes=1_000_000,
    failures=3,
    patience_s=0,
    first_wait_s=0.01,
    longest_wait_s=0.05,
    stall_s=0.4,
)
REPO = "owner/repo-GGUF"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    state = FakeHub(
        repos={REPO: FakeRepo(lfs={"m-Q4_0.gguf": DATA}, plain={"config.json": b'{"a": 1}'})}
    )
    with running(state):
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state


def fetch_path(
    tmp_path: Path, path: str = "m-Q4_0.gguf", limits: Limits = FAST, **options: Any
) -> Fetched:
    client = Hub(HubOptions.from_environment())
    repository = client.read_repository(REPO)
    file = next(f for f in repository.files if f.path == path)
    return Fetch(
        client, repository, file, tmp_path / "store" / file.name, limits=limits, **options
    ).run()


def read_stored(tmp_path: Path, name: str = "m-Q4_0.gguf") -> bytes:
    return (tmp_path / "store" / name).read_bytes()


def list_store(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "store")) if (tmp_path / "store").exists() else []


# --- the good way -----------------------------------------------------------------------


def test_a_listing_has_sizes_and_hashes_over_all_pages(hub: FakeHub) -> None:
    repository = Hub().read_repository(REPO)
    assert repository.commit == "c" * 40
    by_path = {f.path: f for f in repository.files}
    assert by_path["m-Q4_0.gguf"].sha256 == SHA
    assert by_path["m-Q4_0.gguf"].nbytes == len(DATA)
    assert (by_path["config.json"].sha256, by_path["config.json"].nbytes) == ("", 8)
    assert sum("/tree/" in r for r in hub.requests) == 2


def test_a_file_arrives_whole_over_several_connections(hub: FakeHub, tmp_path: Path) -> None:
    assert fetch_path(tmp_path) == Fetched(SHA, "hub")
    assert read_stored(tmp_path) == DATA
    assert sorted(hub.ranges) == [(0, 1_000_000), (1_000_000, 2_000_000), (2_000_000, 3_000_000)]
    assert hub.sent_bytes == len(DATA)
    assert list_store(tmp_path) == ["m-Q4_0.gguf"]
    assert fetch_path(tmp_path).origin == "here"
    assert hub.sent_bytes == len(DATA)


@pytest.mark.usefixtures("hub")
def test_a_small_file_of_git_itself_is_checked_by_its_git_hash(tmp_path: Path) -> None:
    fetch_path(tmp_path, "config.json")
    assert read_stored(tmp_path, "config.json") == b'{"a": 1}'


def test_an_empty_file(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos[REPO].plain["empty.json"] = b""
    fetch_path(tmp_path, "empty.json")
    assert read_stored(tmp_path, "empty.json") == b""


def test_the_token_goes_to_the_hub_and_never_to_its_storage(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[REPO].gated = True
    monkeypatch.setenv("HF_TOKEN", hub.token)
    fetch_path(tmp_path)
    fetch_path(tmp_path, "config.json")
    assert hub.leaked_tokens == 0


@pytest.mark.usefixtures("hub")
def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    client = Hub()
    repository = client.read_repository(REPO)
    Fetch(
        client,
        repository,
        repository.files[0],
        tmp_path / "m",
        limits=FAST,
        progress=lambda *n: seen.append(n),
    ).run()
    assert seen[-1][:2] == (len(DATA), len(DATA))
    assert all(done <= total == len(DATA) for done, total, _ in seen)


def test_everything_goes_through_a_proxy(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name that only the proxy knows: the hub on the loopback address plays the proxy too.
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    monkeypatch.setenv("HTTP_PROXY", hub.url.replace("//", "//me:pass%20word@"))
    hub.storage_host = "storage.example"
    close_session()  # the library's client remembers the proxies of its first call
    try:
        fetch_path(tmp_path)
        assert read_stored(tmp_path) == DATA
        assert hub.proxy_logins == {"me:pass word"}
        monkeypatch.setenv("NO_PROXY", "hub.example,storage.example")
        close_session()
        with pytest.raises(NetworkError, match="cannot be reached"):
            fetch_path(tmp_path, "config.json")
    finally:
        close_session()


def test_a_proxy_that_is_not_supported_is_named_where_it_would_be_used(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@127.0.0.1:1")
    hub.storage_host = "storage.example"
    close_session()
    try:
        with pytest.raises(
            UsageError, match=r"^ALL_PROXY=socks5://127\.0\.0\.1:1: a proxy by socks5"
        ):
            fetch_path(tmp_path)
        monkeypatch.setenv("HTTP_PROXY", hub.url)
        close_session()
        fetch_path(tmp_path)
        assert read_stored(tmp_path) == DATA
    finally:
        close_session()


@pytest.mark.usefixtures("hub")
def test_named_certificates_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with pytest.raises(UsageError, match="cannot be read") as caught:
        Hub().read_repository(REPO)
    assert caught.value.hint == "unset REQUESTS_CA_BUNDLE"
    bundle.write_text("no certificate")
    with pytest.raises(UsageError, match="cannot be read"):
        load_certificates()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    assert load_certificates()


# --- faults that a retry mends ----------------------------------------------------------

MENDED = {
    "500": Fault("status", 500),
    "503 with a wait": Fault("status", 503, retry_after=0),
    "429": Fault("status", 429, retry_after=0),
    "reset at once": Fault("close"),
    "reset in the middle": Fault("reset", after=400_000),
    "stall": Fault("stall", after=100_000),
    "short": Fault("short", after=300_000),
    "wrong range": Fault("wrong range"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MENDED)
def test_a_fault_is_mended_by_trying_again(hub: FakeHub, tmp_path: Path, name: str) -> None:
    hub.faults = [replace(MENDED[name])]
    fetch_path(tmp_path)
    assert read_stored(tmp_path) == DATA
    assert not hub.faults
    # What had arrived before the fault is not fetched again (a read of 128 KiB may be lost).
    assert hub.sent_bytes <= len(DATA) + 300_000


@pytest.mark.slow
def test_many_faults_with_progress_between_them_do_not_add_up(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("reset", after=200_000) for _ in range(12)]
    fetch_path(tmp_path)
    assert read_stored(tmp_path) == DATA


def test_an_expired_address_is_asked_for_again(hub: FakeHub, tmp_path: Path) -> None:
    client = Hub()
    repository = client.read_repository(REPO)

    class Expiring(Hub):
        def locate_file(self, repository, file):  # type: ignore[no-untyped-def]
            location = super().locate_file(repository, file)
            hub.sign += hub.sign < 3  # the first two addresses expire before they are used
            return location

    Fetch(Expiring(), repository, repository.files[0], tmp_path / "m", limits=FAST).run()
    assert (tmp_path / "m").read_bytes() == DATA
    assert client.options.endpoint == hub.url


@pytest.mark.slow
def test_api_calls_are_tried_again_too(hub: FakeHub, tmp_path: Path) -> None:
    client = Hub()
    repository = client.read_repository(REPO)
    hub.api_faults = [Fault("status", 503)]
    assert (
        Fetch(client, repository, repository.files[0], tmp_path / "m", limits=FAST).run().origin
        == "hub"
    )


def test_passing_faults_of_the_hub_itself_are_waited_for(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    hub.api_faults = [
        Fault("status", 503),
        Fault("close"),
        Fault("status", 429, retry_after=9),
        Fault("status", 502, retry_after=7200),
    ]
    assert Hub().read_repository(REPO).commit == "c" * 40
    assert waits == [0.5, 1.0, 9.0, 30.0]
    hub.api_faults = [Fault("status", 503)] * 3
    assert Hub().read_repository(REPO).commit == "c" * 40
    assert capfd.readouterr().err == ""  # the library's own reports would fall between the bars


# --- faults that stay -------------------------------------------------------------------


@pytest.mark.slow
def test_when_nothing_helps_what_arrived_is_kept_and_used(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("reset", after=500_000), *(Fault("status", 502) for _ in range(40))]
    with pytest.raises(NetworkError, match=r"502.* are kept") as caught:
        fetch_path(tmp_path, limits=replace(FAST, connections=1))
    assert "same command again" in (caught.value.hint or "")
    assert [name[-5:] for name in list_store(tmp_path)] == ["urnal", ".part"]
    hub.faults, hub.sent_bytes = [], 0
    partial = Partial(tmp_path / "store" / "m-Q4_0.gguf", Goal(len(DATA), SHA))
    arrived = partial.arrived_bytes
    partial.close()
    assert arrived > 350_000
    fetch_path(tmp_path)
    assert read_stored(tmp_path) == DATA
    assert hub.sent_bytes == len(DATA) - arrived
    assert list_store(tmp_path) == ["m-Q4_0.gguf"]


def test_a_wrong_content_is_named_by_both_hashes_and_kept(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos[REPO].claimed_sha256["m-Q4_0.gguf"] = wrong = "0" * 64
    with pytest.raises(HashMismatch) as caught:
        fetch_path(tmp_path)
    assert SHA in caught.value.message
    assert wrong in caught.value.message
    assert "--restart" in (caught.value.hint or "")
    assert "m-Q4_0.gguf" not in list_store(tmp_path)
    assert any(name.endswith(".part") for name in list_store(tmp_path))


@pytest.mark.slow
def test_restart_throws_a_bad_partial_away(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("garbage")]
    with pytest.raises(HashMismatch):
        fetch_path(tmp_path)
    with pytest.raises(HashMismatch):
        fetch_path(tmp_path)
    fetch_path(tmp_path, restart=True)
    assert read_stored(tmp_path) == DATA


def test_a_server_without_ranges_is_named(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("whole")] * 8
    with pytest.raises(NetworkError, match="ignores byte ranges"):
        fetch_path(tmp_path)


def test_a_change_in_mid_transfer_is_noticed(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("other size")]
    with pytest.raises(BadFile, match="changed during the download"):
        fetch_path(tmp_path)
    client = Hub()
    repository = client.read_repository(REPO)
    hub.repos[REPO].lfs["m-Q4_0.gguf"] = DATA[::-1]
    with pytest.raises(BadFile, match="changed on the hub"):
        Fetch(client, repository, repository.files[0], tmp_path / "x", limits=FAST).run()


# --- refusals of the hub ----------------------------------------------------------------


def make_gated(hub: FakeHub) -> None:
    hub.repos[REPO].gated = True


def make_private(hub: FakeHub) -> None:
    hub.repos[REPO].private = True


def answer_status(code: int) -> Callable[[FakeHub], None]:
    def apply(hub: FakeHub) -> None:
        hub.api_faults = [Fault("status", code, retry_after=0) for _ in range(20)]

    return apply


@pytest.mark.parametrize(
    ("what", "error", "words", "hint"),
    [
        (make_gated, NetworkError, "is gated", "accept it at"),
        (make_private, NotFound, "no repository", "HF_TOKEN"),
        (lambda hub: hub.repos.clear(), NotFound, "no repository", "HF_TOKEN"),
        (answer_status(403), NetworkError, r"refuses the request \(403\)", "hf auth login"),
        (answer_status(429), NetworkError, "too many requests", "wait"),
        (answer_status(500), NetworkError, "status 500", "later"),
        (
            lambda hub: setattr(hub, "api_faults", [Fault("close")] * 9),
            NetworkError,
            "cannot be reached",
            "HTTPS_PROXY",
        ),
    ],
)
def test_refusals_are_told_with_what_to_type(
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: Callable[[FakeHub], None],
    error: type[G4Error],
    words: str,
    hint: str,
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the library's own back-off
    what(hub)
    with pytest.raises(error, match=words) as caught:
        fetch_path(tmp_path)
    assert hint in (caught.value.hint or "")
    assert list_store(tmp_path) == []


def test_a_wrong_token_for_a_gated_repository(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[REPO].gated = True
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(NetworkError, match="gated"):
        fetch_path(tmp_path)


@pytest.mark.usefixtures("hub")
def test_an_unknown_revision() -> None:
    with pytest.raises(NotFound, match="no revision v9"):
        Hub().read_repository(REPO, "v9")


def test_no_server_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NetworkError, match="cannot be reached"):
        Hub().read_repository(REPO)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", ["a/b/c", "a b", "", "-a/b", "a--b/..c"])
def test_names_that_are_no_repository(name: str) -> None:
    with pytest.raises((UsageError, NotFound)):
        Hub().read_repository(name)


def test_an_unsafe_path_in_a_listing(hub: FakeHub) -> None:
    hub.repos[REPO].lfs["../../evil.gguf"] = b"x"
    with pytest.raises(BadFile, match="unsafe path"):
        Hub().read_repository(REPO)


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_sends_nothing(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(NetworkError, match="offline"):
        Hub().read_repository(REPO)
    assert hub.requests == []


# --- the cache, the lock, the end of a process ------------------------------------------


def test_a_file_in_the_hubs_cache_is_used(hub: FakeHub, tmp_path: Path) -> None:
    blob = hub_cache_dir() / f"models--{REPO.replace('/', '--')}" / "blobs" / SHA
    blob.parent.mkdir(parents=True)
    blob.write_bytes(DATA)
    assert fetch_path(tmp_path).origin == "cache"
    assert os.path.samefile(tmp_path / "store" / "m-Q4_0.gguf", blob)
    assert hub.sent_bytes == 0


@pytest.mark.usefixtures("hub")
def test_a_damaged_cache_is_not_used(tmp_path: Path) -> None:
    blob = hub_cache_dir() / f"models--{REPO.replace('/', '--')}" / "blobs" / SHA
    blob.parent.mkdir(parents=True)
    blob.write_bytes(DATA[:-1] + b"x")
    assert fetch_path(tmp_path).origin == "hub"


@pytest.mark.usefixtures("hub")
def test_a_check_can_be_given_up(tmp_path: Path) -> None:
    fetch_path(tmp_path)
    with pytest.raises(Interrupted):
        fetch_path(tmp_path, cancelled=lambda: True)
    assert read_stored(tmp_path) == DATA


@pytest.mark.slow
def test_a_second_one_waits_and_finds_the_file(hub: FakeHub, tmp_path: Path) -> None:
    hub.rate = 6_000_000
    client = Hub()
    repository = client.read_repository(REPO)
    told: list[str] = []
    results: list[Fetched] = []

    def one() -> None:
        target = tmp_path / "store" / "m.gguf"
        results.append(
            Fetch(
                client, repository, repository.files[0], target, limits=FAST, notice=told.append
            ).run()
        )

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r.origin for r in results) == ["here", "hub"]
    assert hub.sent_bytes == len(DATA)
    assert told == ["waiting: another g4 process is downloading m.gguf"]


CHILD = """
import sys
from pathlib import Path
from g4cli.hub import Fetch, Hub
from g4cli.hub.transfer import Limits
client = Hub()
repository = client.read_repository(sys.argv[1])
Fetch(client, repository, repository.files[0], Path(sys.argv[2]),
      limits=Limits(piece_bytes=4_000_000, first_wait_s=0.01)).run()
"""


def kill_until_whole(hub: FakeHub, target: Path, kills: int, spread_s: float) -> tuple[int, int]:
    """Start and kill -9 until the file is complete; return kills that hit, and bytes sent."""
    hits = 0
    for n in range(kills):
        before = hub.sent_bytes
        child = subprocess.Popen([sys.executable, "-c", CHILD, REPO, target])
        # Not before the transfer has begun: start-up would eat all the kills.
        while hub.sent_bytes == before and child.poll() is None:
            time.sleep(0.005)
        time.sleep(spread_s * ((n * 7) % 10) / 10)
        hits += child.poll() is None
        child.kill()
        child.wait()
    subprocess.run([sys.executable, "-c", CHILD, REPO, target], check=True)
    return hits, hub.sent_bytes


@pytest.mark.slow
def test_kill_9_loses_at_most_a_mebibyte_each_time(hub: FakeHub, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(12_000_000)
    hub.repos[REPO].lfs = {"m-Q4_0.gguf": data}
    hub.rate = 16_000_000
    target = tmp_path / "store" / "m.gguf"
    hits, sent = kill_until_whole(hub, target, kills=4, spread_s=0.25)
    assert target.read_bytes() == data
    assert hits == 4
    assert sent <= 1.05 * len(data) + hits * 2**20
    assert list_store(tmp_path) == ["m.gguf"]


@pytest.mark.slow
def test_ctrl_c_keeps_what_arrived(hub: FakeHub, tmp_path: Path) -> None:
    hub.rate = 3_000_000
    target = tmp_path / "store" / "m.gguf"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, REPO, target], stderr=subprocess.PIPE, text=True
    )
    while hub.sent_bytes < 500_000:
        time.sleep(0.01)
    child.send_signal(2)
    _, err = child.communicate(timeout=60)
    assert "Interrupted: interrupted; " in err
    assert " are kept" in err
    hub.rate, hub.sent_bytes = 0, 0
    assert fetch_path(tmp_path.joinpath(), limits=FAST).origin == "hub"


@pytest.mark.slow
def test_an_older_partial_goes_when_the_new_file_is_whole(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("reset", after=500_000), *(Fault("status", 502) for _ in range(40))]
    with pytest.raises(NetworkError):
        fetch_path(tmp_path)
    hub.faults = []
    hub.repos[REPO].lfs["m-Q4_0.gguf"] = newer = DATA[::-1]
    fetch_path(tmp_path)
    assert read_stored(tmp_path) == newer
    assert list_store(tmp_path) == ["m-Q4_0.gguf"]


def test_partial_files_of_a_name_are_those_of_no_other_name(tmp_path: Path) -> None:
    for name in ("m[1].gguf", "m1.gguf", "m[1].gguf.old"):
        (tmp_path / f".{name}.0123456789ab.part").touch()
    found = [path.name for path in find_partials(tmp_path / "m[1].gguf")]
    assert found == [".m[1].gguf.0123456789ab.part"]


def gguf_of(template: str, fill: int) -> bytes:
    keys = gemma4_keys(replace={"tokenizer.chat_template": ("str", template)})
    tensors = [("token_embd.weight", BF16, (64, 20_000), bytes([fill]) * 2_560_000)]
    return build_gguf(keys, tensors)


@pytest.mark.slow
def test_an_update_of_the_header_keeps_the_weights(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse, "MIN_FILE_BYTES", 1)
    files = hub.repos[REPO].lfs
    files["m-Q4_0.gguf"] = gguf_of("old", 1)
    fetch_path(tmp_path)
    hub.sent_bytes = 0
    files["m-Q4_0.gguf"] = gguf_of("a newer template" * 50, 1)
    told: list[str] = []
    fetch_path(tmp_path, notice=told.append)
    assert read_stored(tmp_path) == files["m-Q4_0.gguf"]
    assert told == ["m-Q4_0.gguf: only its header changed; reusing the weights on this disk"]
    assert hub.sent_bytes < 1_100_000  # the first MiB, to read the header, and the header itself
    assert list_store(tmp_path) == ["m-Q4_0.gguf"]


@pytest.mark.slow
def test_an_update_of_weights_and_header_is_noticed_by_the_hash(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse, "MIN_FILE_BYTES", 1)
    files = hub.repos[REPO].lfs
    files["m-Q4_0.gguf"] = gguf_of("old", 1)
    fetch_path(tmp_path)
    files["m-Q4_0.gguf"] = gguf_of("new", 2)
    told: list[str] = []
    fetch_path(tmp_path, notice=told.append)
    assert read_stored(tmp_path) == files["m-Q4_0.gguf"]
    assert told[-1] == "m-Q4_0.gguf: its weights changed too; downloading them"
    files["m-Q4_0.gguf"] = build_gguf(gemma4_keys(), [("other.weight", BF16, (64, 20_000), None)])
    told.clear()
    fetch_path(tmp_path, notice=told.append)
    assert read_stored(tmp_path) == files["m-Q4_0.gguf"]
    assert told == []


def test_weights_that_are_no_gguf_are_fetched_again_when_they_are_damaged(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse, "MIN_FILE_BYTES", 1)
    hub.repos[REPO].lfs["model.safetensors"] = DATA
    fetch_path(tmp_path, "model.safetensors")
    (tmp_path / "store" / "model.safetensors").write_bytes(DATA[:-1] + b"?")
    assert fetch_path(tmp_path, "model.safetensors").origin == "hub"
    assert read_stored(tmp_path, "model.safetensors") == DATA


def test_options_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HOME", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert HubOptions.from_environment() == HubOptions(
        False, "https://huggingface.co", tmp_path / ".cache" / "huggingface" / "hub"
    )
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert hub_cache_dir() == Path("/x/huggingface/hub")
    monkeypatch.setenv("HF_HOME", "/h")
    assert hub_cache_dir() == Path("/h/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/c")
    assert hub_cache_dir() == Path("/c")
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert HubOptions.from_environment(offline=True) == HubOptions(
        True, "https://mirror.example", Path("/c")
    )
    assert RemoteFile("a/b.gguf", 1).name == "b.gguf"

"""The header of a file on a loopback hub is read by ranges, without the weights."""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from g4cli.cli.main import run
from g4cli.core import gguf_pieces
from g4cli.core.errors import BadGGUF, NetworkError
from g4cli.core.gguf import read_header
from g4cli.core.gguf_header import Header
from g4cli.core.shape import shape_of
from g4cli.hub.client import Hub, Location
from g4cli.hub.header import ReadSizes, remote_header
from g4cli.hub.listing import RemoteFile
from tests.support.builders import real_shapes, shapes
from tests.support.builders.gguf import build_gguf, key, tensor_info
from tests.support.fakes.hub import FakeHub, FakeRepo, Fault, running

REPO = "someone/gemma-4-tiny-GGUF"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with tiny's shape, whose header is too long for one range."""
    path = tmp_path_factory.mktemp("hub") / "tiny-Q8_0.gguf"
    vocabulary = real_shapes.synthetic_vocabulary(30_000)
    return real_shapes.build(path, "tiny", shapes.TINY, "q8_0", vocabulary=vocabulary)


@pytest.fixture
def hub(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    files = {model.name: model.read_bytes(), "bad-BF16.gguf": b"not a model" * 100}
    files["other-F16.gguf"] = build_gguf([("general.architecture", "str", "llama")])
    state = FakeHub(repos={REPO: FakeRepo(lfs=files)})
    with running(state):
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state


def header_of(name: str, *, whole: bool = False) -> Header:
    client = Hub()
    repository = client.read_repository(REPO)
    return remote_header(
        client, repository, next(f for f in repository.files if f.path == name), whole=whole
    )


def strings_key(name: str, count: int, nbytes: int) -> bytes:
    """Return a key with `count` strings that take `nbytes`, including the length of each."""
    short, more = divmod(nbytes - 8 * count, count)
    long_item = struct.pack("<Q", short + 1) + b"y" * (short + 1)
    short_item = struct.pack("<Q", short) + b"x" * short
    head = key(name, "[str]", [])[:-8] + struct.pack("<Q", count)
    return head + long_item * more + short_item * (count - more)


def numbers_key(name: str, kind: str, count: int) -> bytes:
    return key(name, kind, [])[:-8] + struct.pack("<Q", count) + bytes(4 * count)


def keys_after_tokens(n_tokens: int, n_merges: int, merges_bytes: int) -> tuple[bytes, ...]:
    """Return the tokenizer keys that follow the tokens in a header."""
    return (
        numbers_key("tokenizer.ggml.scores", "[f32]", n_tokens),
        numbers_key("tokenizer.ggml.token_type", "[i32]", n_tokens),
        strings_key("tokenizer.ggml.merges", n_merges, merges_bytes),
        key("tokenizer.chat_template", "str", "{{ 'x' }}" * 2000),
    )


# A vocabulary smaller than the published one, which the fixture `known` makes known instead.
N_TOKENS, N_MERGES, TOKENS_BYTES = 8_000, 8_000, 700_000
KNOWN = {
    ("tokenizer.ggml.tokens", N_TOKENS): TOKENS_BYTES,
    ("tokenizer.ggml.merges", N_MERGES): 900_000,
}
AFTER_TOKENS = keys_after_tokens(N_TOKENS, N_MERGES, 900_000)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_pieces, "KNOWN_STRINGS", KNOWN)


def file_of(*tokenizer: bytes) -> bytes:
    """Return a file of tiny's shape with these tokenizer keys."""
    keys = real_shapes.network_keys("tiny", shapes.TINY, "f32")
    tensors = [("token_embd.weight", 0, (256, 768), None)]
    return build_gguf([*keys, *tokenizer], tensors)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_header_equals_the_local_one_and_no_weights_are_fetched(
    hub: FakeHub, model: Path
) -> None:
    local, remote = read_header(model), header_of(model.name)
    assert remote.keys == local.keys
    assert remote.tensors == local.tensors
    assert shape_of(remote) == shapes.TINY
    assert len(hub.ranges) > 1
    assert local.data_offset <= max(end for _, end in hub.ranges) + 1
    assert sum(end - start for start, end in hub.ranges) <= local.data_offset + (1 << 20)


def read_both(hub: FakeHub, data: bytes, folder: Path) -> tuple[Header, Header, int, int]:
    """Return the header read on disk and over the network, the bytes fetched, and the ranges."""
    path = folder / "made-F32.gguf"
    path.write_bytes(data)
    hub.repos[REPO].lfs[path.name] = data
    hub.ranges.clear()
    remote = header_of(path.name)
    ranges = list(hub.ranges)
    return read_header(path), remote, sum(end - start for start, end in ranges), len(ranges)


@pytest.mark.slow
def test_the_known_vocabulary_is_skipped(hub: FakeHub, tmp_path: Path) -> None:
    tokens = strings_key("tokenizer.ggml.tokens", 262_144, 4_413_447)
    data = file_of(tokens, *keys_after_tokens(262_144, 514_906, 9_251_719))
    local, remote, fetched, ranges = read_both(hub, data, tmp_path)
    assert (remote.tensors, remote.data_offset) == (local.tensors, local.data_offset)
    assert shape_of(remote) == shape_of(local)
    assert local.data_offset > 15 << 20
    assert fetched < 1 << 19
    assert ranges <= 6
    assert remote.keys == local.keys  # what was skipped is fetched when it is used
    assert sum(end - start for start, end in hub.ranges) > local.data_offset


@pytest.mark.slow
@pytest.mark.usefixtures("known")
def test_with_whole_every_byte_of_the_header_is_fetched_once(hub: FakeHub, tmp_path: Path) -> None:
    tokens = strings_key("tokenizer.ggml.tokens", N_TOKENS, TOKENS_BYTES)
    local, _, fetched, _ = read_both(hub, file_of(tokens, *AFTER_TOKENS), tmp_path)
    assert fetched < 1 << 19 < local.data_offset
    hub.ranges.clear()
    assert header_of("made-F32.gguf", whole=True).keys == local.keys
    spans = sorted(hub.ranges)
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert spans[-1][1] >= local.data_offset


@pytest.mark.slow
@pytest.mark.requires_vocab
def test_the_published_vocabulary_is_skipped(hub: FakeHub, tmp_path: Path) -> None:
    vocabulary = real_shapes.real_vocabulary()
    path = real_shapes.build(
        tmp_path / "x.gguf", "tiny", shapes.TINY, "q4_0", vocabulary=vocabulary
    )
    local, remote, fetched, ranges = read_both(hub, path.read_bytes(), tmp_path)
    assert remote.tensors == local.tensors
    assert list(remote.keys) == list(local.keys)
    assert fetched < 1 << 19
    assert ranges <= 6


@pytest.mark.slow
@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    "tokens",
    [
        pytest.param(
            strings_key("tokenizer.ggml.tokens", N_TOKENS, TOKENS_BYTES + 1), id="one byte longer"
        ),
        pytest.param(strings_key("tokenizer.ggml.tokens", N_TOKENS, 600_000), id="shorter"),
        pytest.param(strings_key("tokenizer.ggml.tokens", N_TOKENS, 1_100_000), id="longer"),
        pytest.param(
            strings_key("tokenizer.ggml.tokens", N_TOKENS - 1, TOKENS_BYTES), id="another count"
        ),
    ],
)
def test_another_vocabulary_is_read_string_by_string(
    tokens: bytes, hub: FakeHub, tmp_path: Path
) -> None:
    local, remote, fetched, _ = read_both(hub, file_of(tokens, *AFTER_TOKENS), tmp_path)
    assert remote.keys == local.keys
    assert remote.tensors == local.tensors
    assert fetched > TOKENS_BYTES  # the merges may be known when the tokens are not


def hostile_tokens(landing: bytes) -> bytes:
    """Return tokens that have `landing`, inside one of them, where the jump over them ends."""
    plain = struct.pack("<Q", 8) + b"x" * 8
    n = 6_000
    filler = TOKENS_BYTES - 16 * n - 8
    long_item = b"z" * filler + landing
    items = plain * n + struct.pack("<Q", len(long_item)) + long_item + plain * (N_TOKENS - n - 1)
    return key("tokenizer.ggml.tokens", "[str]", [])[:-8] + struct.pack("<Q", N_TOKENS) + items


FAKE_KEYS = b"".join(key(f"forged.{i}", "u32", i) for i in range(4))
FAKE_TENSOR = tensor_info("token_embd.weight", 0, (256, 768), 0)
# Arrays of numbers, each long enough to be skipped: only the limit of ranges ends the jumps.
LADDER = b"".join(
    key(f"l.{i}", "[i32]", [])[:-8] + struct.pack("<Q", 20_000) + bytes(80_000) for i in range(60)
)


@pytest.mark.slow
@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    "landing",
    [
        pytest.param(FAKE_KEYS + FAKE_TENSOR, id="a whole header, whose tensor ends elsewhere"),
        pytest.param(FAKE_KEYS + tensor_info("t", 0, (1 << 40,), 0), id="a tensor beyond the file"),
        pytest.param(FAKE_KEYS + b"\xff" * 64, id="keys, then garbage"),
        pytest.param(struct.pack("<Q", 1 << 62), id="a giant key"),
        pytest.param(LADDER, id="jumps without end"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_jump_into_hostile_bytes_does_not_change_the_header(
    landing: bytes, hub: FakeHub, tmp_path: Path
) -> None:
    local, remote, fetched, ranges = read_both(
        hub, file_of(hostile_tokens(landing), *AFTER_TOKENS), tmp_path
    )
    assert list(remote.keys) == list(local.keys)
    assert remote.tensors == local.tensors
    assert fetched < 2 * local.data_offset + (4 << 20)
    assert ranges <= 32


@pytest.mark.slow
def test_with_and_without_jumps_the_tensors_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 mutated files: if both ways read a header, it has the same tensors."""
    n, n_bytes, m, m_bytes = 3000, 60_000, 2000, 50_000
    known = {("tokenizer.ggml.tokens", n): n_bytes, ("tokenizer.ggml.merges", m): m_bytes}
    monkeypatch.setattr(gguf_pieces, "KNOWN_STRINGS", known)
    good = file_of(
        strings_key("tokenizer.ggml.tokens", n, n_bytes), *keys_after_tokens(n, m, m_bytes)
    )
    header_bytes = len(good) - 256 * 768 * 4
    rng, outcomes = random.Random(4), []
    for _ in range(200):
        data = bytearray(good)
        at = rng.choice(
            [
                rng.randrange(3000),
                rng.randrange(header_bytes),
                rng.randrange(header_bytes - 20_000, header_bytes),
            ]
        )
        length = rng.choice([0, 1, 255, 1 << 31, 1 << 62, (1 << 64) - 1]).to_bytes(8, "little")
        data[at : at + rng.choice([0, 1, 8])] = rng.choice(
            [length, length[:1], bytes([rng.randrange(256)])]
        )
        outcomes.append(compare_ways(bytes(data)))
    assert {"equal", "neither"} <= set(outcomes)
    assert "other" not in outcomes


def compare_ways(data: bytes) -> str:
    """Read `data` with jumps and without; return "equal", "other", "one" or "neither"."""
    file = RemoteFile("x.gguf", len(data), "", "")
    hub: Any = SimpleNamespace(locate_file=lambda *_: Location("x.gguf", {}, ""))
    connection: Any = SimpleNamespace(
        get_range=lambda _url, _headers, start, end: io.BytesIO(data[start:end]),
        close=lambda: None,
    )
    sizes = ReadSizes(first=8192, landing=2048, min_jump=1024)
    found: list[Header] = []
    for whole in (False, True):
        with suppress(BadGGUF):
            repository: Any = SimpleNamespace(repo="a/b")
            found.append(
                remote_header(
                    hub, repository, file, whole=whole, connection=connection, sizes=sizes
                )
            )
    if len(found) < 2:
        return "one" if found else "neither"
    return "equal" if found[0].tensors == found[1].tensors else "other"


@pytest.mark.slow
def test_a_broken_connection_is_retried(hub: FakeHub, model: Path) -> None:
    hub.faults = [Fault("reset", after=1000), Fault("status", status=503)]
    assert header_of(model.name).tensors == read_header(model).tensors
    hub.faults = [Fault("status", status=503)] * 5
    with pytest.raises(NetworkError, match="header cannot be read"):
        header_of(model.name)


@pytest.mark.usefixtures("hub")
def test_a_file_that_is_not_a_gguf_is_refused() -> None:
    with pytest.raises(BadGGUF, match="not a GGUF"):
        header_of("bad-BF16.gguf")


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_fit_reads_a_header_on_the_hub(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", f"hf:{REPO}:q8_0", "--ctx", "1k", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["model"] == f"hf:{REPO}/tiny-Q8_0.gguf"
    assert data["source"] == "the header on the hub"
    # Four sliding layers of 768 cells (the window of 128 and a ubatch of 512, rounded up to 256)
    # and a full one of 1,024, each with one KV head, of 64 or 128; keys and values of two bytes.
    assert data["kv_bytes"] == (4 * 768 * 64 + 1 * 1024 * 128) * 2 * 2


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("hf:someone/missing", 3, "missing"),
        (f"hf:{REPO}/none.gguf", 3, "no file none.gguf"),
        (f"hf:{REPO}:f16", 5, "this is the vocabulary of Llama (llama), not of Gemma 4"),
        ("hf:no", 2, "not an address"),
    ],
)
def test_what_cannot_be_answered(
    address: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fit", address]) == code
    assert words in capsys.readouterr().err


def test_an_unreachable_hub_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert run(["fit", f"hf:{REPO}"]) == 6
    assert "error:" in capsys.readouterr().err

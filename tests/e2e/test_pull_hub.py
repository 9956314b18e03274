"""g4 pull from a hub on the loopback address, as a user meets it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from g4cli.core.gguf import read_header
from g4cli.core.paths import cache_dir, hub_cache_dir, models_dir, tiny_dir
from g4cli.store.models import find_model_file, find_sidecar, list_models
from tests.support.builders.gguf import BF16, F32, Q4_0, Q8_0, build_gguf, gemma4_keys
from tests.support.fakes.hub import FakeHub, FakeRepo, running
from tests.support.run.command import g4, ok


def model(kind: int, number: int, fill: int = 1) -> bytes:
    """Return a small model file of one type."""
    size = {F32: 4096, BF16: 2048, Q4_0: 576, Q8_0: 1088}[kind]
    keys = gemma4_keys(replace={"general.file_type": ("u32", number)})
    return build_gguf(keys, [("token_embd.weight", kind, (64, 16), bytes([fill]) * size)])


def other(architecture: str) -> bytes:
    return build_gguf([("general.architecture", "str", architecture)])


GOOGLE = "google/gemma-4-E2B-it-qat-q4_0-gguf"
GGML = "ggml-org/gemma-4-E2B-it-GGUF"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    state = FakeHub(
        repos={
            GOOGLE: FakeRepo(
                lfs={
                    "gemma-4-E2B-it-mmproj.gguf": other("clip"),
                    "gemma-4-E2B_q4_0-it.gguf": model(Q4_0, 2),
                },
                plain={"README.md": b"card"},
            ),
            GGML: FakeRepo(
                lfs={
                    "gemma-4-E2B-it-Q8_0.gguf": model(Q8_0, 7),
                    "gemma-4-E2B-it-bf16.gguf": model(BF16, 32),
                    "mmproj-gemma-4-E2B-it-Q8_0.gguf": other("clip"),
                    "mtp-gemma-4-E2B-it-Q8_0.gguf": other("gemma4-assistant"),
                }
            ),
        }
    )
    with running(state):
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state


def refused(capsys: pytest.CaptureFixture[str], code: int, *args: str) -> str:
    got, out, err = g4(capsys, *args)
    assert (got, out) == (code, ""), err
    lines = err.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 1
    assert sum(line.startswith("hint: ") for line in lines) <= 1
    assert "Traceback" not in err
    return err


def held() -> list[tuple[str, str]]:
    return [(e.label, e.role) for e in list_models()]


def test_pull_by_name_brings_the_model_and_its_projector(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    done = ok(capsys, "pull", "e2b")
    expected = hub.repos[GOOGLE].lfs["gemma-4-E2B_q4_0-it.gguf"]
    assert Path(done["path"]).read_bytes() == expected
    assert done["sha256"] == hashlib.sha256(expected).hexdigest()
    assert (done["type"], done["bytes"], done["new"]) == ("q4_0", len(expected), True)
    assert done["source"] == f"hf:{GOOGLE}/gemma-4-E2B_q4_0-it.gguf@{'c' * 40}"
    assert held() == [("e2b:q4_0", "model"), ("e2b:vocab", "mmproj")]
    manifest = json.loads(Path(done["path"] + ".json").read_text())
    assert manifest["sha256"] == done["sha256"]
    assert ok(capsys, "show", "e2b")["architecture"] == "gemma4"
    # What lies beside a model is not called by a type, as if it were one.
    assert "e2b:mmproj" in g4(capsys, "verify")[1]
    assert "removed e2b:q4_0, e2b:mmproj: " in g4(capsys, "remove", "e2b", "--yes")[1]


@pytest.mark.slow
def test_a_damaged_projector_is_mended_by_the_command_that_verify_names(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    ok(capsys, "pull", "e2b", "--draft")
    (projector,) = (e.path for e in list_models() if e.role == "mmproj")
    good = projector.read_bytes()
    projector.write_bytes(good[:-1] + b"x")
    code, out, err = g4(capsys, "verify", "e2b:mmproj")
    assert code == 5
    assert "e2b:q4_0" not in out  # only what was requested
    assert "g4 remove e2b:mmproj --yes && g4 pull e2b:q4_0" in err
    assert ok(capsys, "remove", "e2b:mmproj", "--yes")["removed"][0]["role"] == "mmproj"
    sent = hub.sent_bytes
    ok(capsys, "pull", "e2b:q4_0")
    assert projector.read_bytes() == good
    assert hub.sent_bytes == sent + len(good)
    assert ok(capsys, "verify")["ok"] is True


@pytest.mark.slow
def test_pull_again_asks_whether_there_is_a_newer_one(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    ok(capsys, "pull", "e2b")
    hub.sent_bytes = 0
    assert ok(capsys, "pull", "e2b")["new"] is False
    assert hub.sent_bytes == 0
    newer = model(Q4_0, 2, fill=9)
    hub.repos[GOOGLE].lfs["gemma-4-E2B_q4_0-it.gguf"] = newer
    hub.requests.clear()
    assert ok(capsys, "pull", "e2b", "--no-update")["new"] is False
    assert ok(capsys, "pull", "e2b", "--offline")["new"] is False
    assert hub.requests == []
    code, out, err = g4(capsys, "pull", "e2b")
    assert code == 0
    assert "newer on the hub" in err
    assert out.startswith("e2b:q4_0  ")
    assert list_models()[0].path.read_bytes() == newer


@pytest.mark.slow
def test_without_a_network_the_file_here_is_used(
    capsys: pytest.CaptureFixture[str], hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok(capsys, "pull", "e2b")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, out, err = g4(capsys, "pull", "e2b")
    assert (code, out.splitlines()[0][:33]) == (0, "e2b:q4_0 is already on this disk,")
    assert "cannot look for other files" in err
    assert "cannot be reached" in refused(capsys, 6, "pull", "e2b:q8_0")
    assert hub.requests


@pytest.mark.slow
def test_options_for_sidecars(capsys: pytest.CaptureFixture[str], hub: FakeHub) -> None:
    ok(capsys, "pull", "e2b:q8_0", "--no-mmproj", "--draft")
    assert held() == [("e2b:q8_0", "model"), ("e2b:vocab", "draft")]
    ok(capsys, "pull", "e2b:q8_0")
    assert [role for _, role in held()] == ["model", "mmproj", "draft"]
    model_path = find_model_file("e2b").path
    assert [
        p and p.name
        for p in (find_sidecar(model_path, "mmproj"), find_sidecar(model_path, "draft"))
    ] == [
        "mmproj-gemma-4-E2B-it-Q8_0.gguf",
        "mtp-gemma-4-E2B-it-Q8_0.gguf",
    ]
    assert find_sidecar(Path("elsewhere.gguf"), "mmproj") is None
    before = len(hub.requests)
    ok(capsys, "pull", "e2b")  # has a projector already: Google's is not fetched too
    assert not any("mmproj" in r for r in hub.requests[before:])


def test_a_projector_may_come_from_another_repository(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    del hub.repos[GGML].lfs["mmproj-gemma-4-E2B-it-Q8_0.gguf"]
    ok(capsys, "pull", "e2b:q8_0")
    (projector,) = (e for e in list_models() if e.role == "mmproj")
    assert projector.source.startswith(f"hf:{GOOGLE}/")


@pytest.mark.slow
def test_a_type_that_nobody_publishes_is_made(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    code, out, err = g4(capsys, "pull", "e2b:sfp8", "--no-mmproj")
    assert code == 0, err
    assert "e2b:sfp8 is not published: it is made on this machine from e2b:bf16" in err
    assert "g4 remove e2b:bf16 frees its space" in err
    assert out.startswith("e2b:sfp8  ")
    by_type = {e.type: e for e in list_models()}
    assert set(by_type) == {"bf16", "sfp8"}
    assert by_type["sfp8"].source.startswith(f"made from hf:{GGML}/gemma-4-E2B-it-bf16.gguf@")
    assert read_header(by_type["sfp8"].path).keys["g4.format"].data == "SFP8"
    requests = len(hub.requests)
    assert ok(capsys, "pull", "e2b:sfp8", "--no-mmproj")["new"] is False
    assert len(hub.requests) == requests
    assert ok(capsys, "pull", "e2b:sfp8")["new"] is False
    assert [role for _, role in held()].count("mmproj") == 1
    damaged = bytearray(by_type["sfp8"].path.read_bytes())
    damaged[-1] ^= 1
    by_type["sfp8"].path.write_bytes(damaged)
    assert ok(capsys, "pull", "e2b:sfp8", "--restart", "--no-mmproj")["new"] is True
    ok(capsys, "verify", "e2b:sfp8")


def checkpoint_repo() -> FakeRepo:
    """Return the bundled checkpoint as a repository of the hub."""
    names = [p.name for p in tiny_dir().iterdir() if p.suffix in (".json", ".jinja")]
    return FakeRepo(
        lfs={"model.safetensors": (tiny_dir() / "model.safetensors").read_bytes()},
        plain={name: (tiny_dir() / name).read_bytes() for name in names},
    )


@pytest.mark.slow
def test_a_base_model_is_made_from_googles_checkpoint(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    hub.repos["google/gemma-4-E2B"] = checkpoint_repo()
    done = ok(capsys, "pull", "e2b-base:q8_0")
    assert (done["name"], done["type"]) == ("e2b-base", "q8_0")
    assert done["source"] == f"made from hf:google/gemma-4-E2B@{'c' * 40}"
    assert read_header(done["path"]).architecture == "gemma4"


@pytest.mark.slow
def test_addresses_of_the_hub(capsys: pytest.CaptureFixture[str], hub: FakeHub) -> None:
    code, out, err = g4(capsys, "pull", f"hf:{GGML}")
    assert code == 0, err
    assert "type q8_0: the first in g4's order of preference" in err
    assert out.startswith(f"hf:{GGML}:q8_0  ")
    assert ok(capsys, "pull", f"hf:{GGML}:bf16", "--no-mmproj")["type"] == "bf16"
    named = ok(capsys, "pull", f"hf:{GGML}/gemma-4-E2B-it-bf16.gguf@main")
    assert named["name"] == f"hf:{GGML}"
    assert ok(capsys, "show", f"hf:{GGML}:bf16")["path"] == named["path"]
    hub.requests.clear()
    for option in ("--offline", "--no-update"):
        for text in (f"hf:{GGML}", f"hf:{GGML}:bf16", f"hf:{GGML}/gemma-4-E2B-it-bf16.gguf"):
            assert ok(capsys, "pull", text, option)["new"] is False
    assert hub.requests == []
    assert "offline" in refused(capsys, 6, "pull", f"hf:{GGML}:q6_k", "--offline")
    assert len(ok(capsys, "remove", f"hf:{GGML}", "--yes")["removed"]) == 3
    assert hub.leaked_tokens == 0


@pytest.mark.slow
def test_a_checkpoint_by_address_is_converted(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    hub.repos["someone/tuned"] = checkpoint_repo()
    code, out, err = g4(capsys, "pull", "hf:someone/tuned:q4_0")
    assert code == 0, err
    assert "holds no GGUF: its checkpoint is converted to q4_0" in err
    assert out.startswith("hf:someone/tuned:q4_0  ")


def test_all_parts_of_a_split_file_are_planned_for(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    tensors = [[], [("blk.0.w", BF16, (64, 2), None)], [("blk.1.w", BF16, (64, 4), None)]]
    parts = {}
    for number, held in enumerate(tensors):
        keys = gemma4_keys(replace={"split.no": ("u16", number), "split.count": ("u16", 3)})
        parts[f"m-BF16-{number + 1:05d}-of-00003.gguf"] = build_gguf(keys, held)
    hub.repos["a/split-GGUF"] = FakeRepo(lfs=parts)
    seen = [ok(capsys, "fit", "hf:a/split-GGUF:bf16")]
    path = ok(capsys, "pull", "hf:a/split-GGUF:bf16")["path"]
    seen.append(ok(capsys, "fit", path))
    assert [answer["weights_bytes"] for answer in seen] == [768, 768]


@pytest.mark.slow
def test_a_split_file(capsys: pytest.CaptureFixture[str], hub: FakeHub) -> None:
    parts = {}
    for n in (1, 2):
        keys = gemma4_keys(replace={"split.no": ("u16", n - 1), "split.count": ("u16", 2)})
        parts[f"m-BF16-{n:05d}-of-00002.gguf"] = build_gguf(
            keys, [(f"blk.{n}.w", BF16, (64, 2), None)]
        )
    hub.repos["a/split-GGUF"] = FakeRepo(lfs=parts)
    done = ok(capsys, "pull", "hf:a/split-GGUF:bf16")
    assert done["path"].endswith("00001-of-00002.gguf")
    assert [role for _, role in held()] == ["model", "part"]
    assert ok(capsys, "show", "hf:a/split-GGUF")["path"] == done["path"]
    assert len(ok(capsys, "remove", "hf:a/split-GGUF:bf16", "--yes")["removed"]) == 2
    assert held() == []


@pytest.mark.slow
def test_offline_finds_what_the_hubs_cache_has(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    data = hub.repos[GOOGLE].lfs["gemma-4-E2B_q4_0-it.gguf"]
    folder = hub_cache_dir() / f"models--{GOOGLE.replace('/', '--')}"
    commit = "d" * 40
    (folder / "blobs").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    (folder / "blobs" / hashlib.sha256(data).hexdigest()).write_bytes(data)
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "gemma-4-E2B_q4_0-it.gguf").symlink_to(
        folder / "blobs" / hashlib.sha256(data).hexdigest()
    )
    hub.requests.clear()
    code, _, err = g4(capsys, "pull", "e2b", "--offline", "--no-mmproj")
    assert code == 0, err
    assert "are those in the Hugging Face cache" in err
    assert "found in the Hugging Face cache" in err
    assert hub.requests == []
    assert "offline" in refused(capsys, 6, "pull", "e4b", "--offline")


def test_fit_chooses_a_type_with_its_reason(
    capsys: pytest.CaptureFixture[str], hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from g4cli import host

    real = host.read_host()

    def machine(gib: int) -> None:
        from dataclasses import replace

        facts = replace(real, total_bytes=gib << 30, available_bytes=gib << 30)
        monkeypatch.setattr("g4cli.operations.pull.best_type.read_host", lambda: facts)

    names = [f"gemma-4-E2B-it-{kind}.gguf" for kind in ("Q4_K_M", "Q5_K_M", "Q6_K")]
    hub.repos["unsloth/gemma-4-E2B-it-GGUF"] = FakeRepo(lfs={name: model(F32, 0) for name in names})
    machine(64)
    done = ok(capsys, "pull", "e2b", "--fit", "--no-mmproj")
    # What `g4 fit e2b` points at: Google's quantization-aware training makes Q4_0 the one to take.
    assert done["type"] == "q4_0"
    assert "trained for it" in done["reason"]
    assert "bf16 is the most precise that fits with 32,768 tokens" in done["reason"]
    machine(4)
    done = ok(capsys, "pull", "e2b", "--fit", "--no-mmproj")
    assert done["type"] == "q4_k_m"
    assert done["reason"].startswith("q4_k_m: the most precise that fits with 32,768 tokens")
    machine(1)
    assert "no published type of e2b fits" in refused(capsys, 4, "pull", "e2b", "--fit")
    assert "no type of e2b-base fits" in refused(capsys, 4, "pull", "e2b-base", "--fit")
    assert "already names a type" in refused(capsys, 2, "pull", "e2b:q4_0", "--fit")
    assert hub.requests


# --- bad input ---


@pytest.mark.slow
def test_a_missing_repository(capsys: pytest.CaptureFixture[str], hub: FakeHub) -> None:
    hub.repos.clear()
    assert "there is no repository" in refused(capsys, 3, "pull", "e2b")
    assert "hf auth login" in refused(capsys, 3, "pull", "hf:no/body")
    assert not models_dir().exists()


@pytest.mark.slow
def test_a_gated_repository(
    capsys: pytest.CaptureFixture[str], hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[GOOGLE].gated = True
    err = refused(capsys, 6, "pull", "e2b")
    assert f"{GOOGLE} is gated" in err
    assert f"accept it at {hub.url}/{GOOGLE}, then: hf auth login" in err
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert ok(capsys, "pull", "e2b")["new"] is True
    assert hub.leaked_tokens == 0


@pytest.mark.slow
def test_a_type_that_left_the_repository(capsys: pytest.CaptureFixture[str], hub: FakeHub) -> None:
    del hub.repos[GGML].lfs["gemma-4-E2B-it-Q8_0.gguf"]
    assert "its types: bf16" in refused(capsys, 3, "pull", "e2b:q8_0")
    assert "has no file nope.gguf" in refused(capsys, 3, "pull", f"hf:{GGML}/nope.gguf")
    assert "no revision v2" in refused(capsys, 3, "pull", f"hf:{GGML}@v2")


def test_a_file_that_is_no_gguf_is_named_by_what_it_is(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    page = b"<!DOCTYPE html><html>maintenance</html>"
    hub.repos[GOOGLE].lfs["gemma-4-E2B_q4_0-it.gguf"] = page
    err = refused(capsys, 5, "pull", "e2b", "--no-mmproj")
    assert "an HTML page, not a model" in err
    assert held() == []
    assert [p.read_bytes() for p in models_dir().rglob("*.gguf")] == [page]  # nothing is lost


def test_a_hostile_listing(
    capsys: pytest.CaptureFixture[str], hub: FakeHub, tmp_path: Path
) -> None:
    hub.repos[GOOGLE].lfs["../../../evil-Q4_0.gguf"] = b"evil"
    assert "unsafe path" in refused(capsys, 5, "pull", "e2b")
    assert [p.name for p in tmp_path.rglob("*evil*")] == []


def test_a_failure_of_one_file_keeps_the_others(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    hub.repos[GOOGLE].claimed_sha256["gemma-4-E2B-it-mmproj.gguf"] = "f" * 64
    assert "the hub recorded" in refused(capsys, 5, "pull", "e2b")
    assert held() == [("e2b:q4_0", "model")]


def test_no_space(
    capsys: pytest.CaptureFixture[str], hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    assert "needed, 100 B free" in refused(capsys, 4, "pull", "e2b")
    assert hub.sent_bytes == 0
    assert [p for p in models_dir().rglob("*") if p.is_file()] == []


def test_space_is_needed_for_what_is_downloaded_alone(
    capsys: pytest.CaptureFixture[str], hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of another type much has arrived, which makes no room for this one.
    part = models_dir() / "e2b" / ".other-Q8_0.gguf.0123456789ab.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 100_000)
    part.with_suffix(".journal").write_text("{}")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1900})())
    sizes = [len(data) for data in hub.repos[GOOGLE].lfs.values()]
    assert max(sizes) < 1900 < sum(sizes)
    assert " needed, " in refused(capsys, 4, "pull", "e2b")
    assert hub.sent_bytes == 0
    # What the Hugging Face cache has is linked.
    for data in hub.repos[GOOGLE].lfs.values():
        blob = hub_cache_dir() / f"models--{GOOGLE.replace('/', '--')}" / "blobs"
        blob.mkdir(parents=True, exist_ok=True)
        (blob / hashlib.sha256(data).hexdigest()).write_bytes(data)
    assert g4(capsys, "pull", "e2b")[0] == 0
    assert hub.sent_bytes == 0


def test_a_store_that_may_only_be_read(
    capsys: pytest.CaptureFixture[str],
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("G4_HOME", str(tmp_path / "file"))
    assert "cannot be written" in refused(capsys, 2, "pull", "e2b")
    assert hub.sent_bytes == 0


def test_a_wrong_hash_says_both_and_what_to_do(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    hub.repos[GOOGLE].claimed_sha256["gemma-4-E2B_q4_0-it.gguf"] = "f" * 64
    err = refused(capsys, 5, "pull", "e2b", "--no-mmproj")
    assert "the hub recorded " + "f" * 64 in err
    assert "--restart" in err
    assert held() == []
    assert any(name.endswith(".part") for name in os.listdir(models_dir() / "e2b"))


@pytest.mark.slow
def test_what_is_unfinished_is_listed_and_can_be_removed(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    hub.repos[GOOGLE].claimed_sha256["gemma-4-E2B_q4_0-it.gguf"] = "f" * 64
    refused(capsys, 5, "pull", "e2b", "--no-mmproj")
    (row,) = ok(capsys, "list")["unfinished"]
    size = len(hub.repos[GOOGLE].lfs["gemma-4-E2B_q4_0-it.gguf"])
    assert (row["name"], row["file"], row["bytes"]) == ("e2b", "gemma-4-E2B_q4_0-it.gguf", size)
    told = g4(capsys, "list")[2]
    assert "; to resume: g4 pull e2b:q4_0" in told
    assert "no models yet" not in told
    assert ok(capsys, "remove", "e2b", "--yes")["bytes"] == size
    assert not (models_dir() / "e2b").exists()
    assert refused(capsys, 3, "remove", "e2b")


@pytest.mark.parametrize("text", ["hf:", "hf:x", "hf:a/../b", "hf:a/b@"])
def test_addresses_that_are_none(capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert "hf:OWNER/REPO" in refused(capsys, 2, "pull", text)


# --- when a model counts as present ---


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "zeros", "a changed byte"])
def test_a_damaged_file_is_not_here(
    capsys: pytest.CaptureFixture[str], hub: FakeHub, damage: str
) -> None:
    path = Path(ok(capsys, "pull", "e2b", "--no-mmproj")["path"])
    good = path.read_bytes()
    path.write_bytes(
        {"cut": good[:100], "zeros": bytes(len(good)), "a changed byte": good[:-1] + b"x"}[damage]
    )
    assert "offline" in refused(capsys, 6, "pull", "e2b", "--offline", "--no-mmproj")
    assert ok(capsys, "pull", "e2b", "--no-mmproj")["new"] is True
    assert path.read_bytes() == good
    assert hub.requests


@pytest.mark.slow
def test_a_file_that_was_only_touched_is_hashed_once(
    capsys: pytest.CaptureFixture[str], hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from g4cli.store import verify

    path = Path(ok(capsys, "pull", "e2b", "--no-mmproj")["path"])
    hashed = []
    real = verify.sha256_of
    monkeypatch.setattr(verify, "sha256_of", lambda p, **kw: hashed.append(p) or real(p, **kw))
    os.utime(path, (1, 1))
    sent = hub.sent_bytes
    for _ in range(2):
        assert ok(capsys, "pull", "e2b", "--no-mmproj")["new"] is False
    assert (hashed, hub.sent_bytes) == ([path], sent)


@pytest.mark.slow
def test_a_tampered_text_of_a_checkpoint_is_fetched_again(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    hub.repos["someone/tuned"] = checkpoint_repo()
    ok(capsys, "pull", "hf:someone/tuned:bf16")
    (config,) = cache_dir().glob("checkpoints/*/*/config.json")
    good = config.read_bytes()
    config.write_bytes(good.replace(b"1", b"2"))
    ok(capsys, "pull", "hf:someone/tuned:q8_0")
    assert config.read_bytes() == good


@pytest.mark.slow
def test_without_a_hash_in_the_listing_that_of_the_etag_counts(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    hub.repos[GOOGLE].lists_hashes = False
    done = ok(capsys, "pull", "e2b", "--no-mmproj")
    name = "gemma-4-E2B_q4_0-it.gguf"
    assert done["sha256"] == hub.repos[GOOGLE].sha256(name)
    hub.repos[GOOGLE].claimed_sha256[name] = "f" * 64
    assert "the hub recorded" in refused(capsys, 5, "pull", "e2b", "--no-mmproj", "--restart")


def test_a_file_without_any_hash_is_refused(
    capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    hub.repos[GOOGLE].lists_hashes = False
    hub.repos[GOOGLE].claimed_sha256["gemma-4-E2B_q4_0-it.gguf"] = "not a hash"
    assert "cannot be verified" in refused(capsys, 5, "pull", "e2b", "--no-mmproj")
    assert held() == []


@pytest.mark.slow
def test_addresses_as_everybody_types_them(
    capsys: pytest.CaptureFixture[str],
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = ok(capsys, "pull", f"{GGML}:bf16", "--no-mmproj")
    assert done["name"] == f"hf:{GGML}"
    page = f"https://huggingface.co/{GGML}/blob/main/gemma-4-E2B-it-bf16.gguf"
    assert ok(capsys, "pull", page)["path"] == done["path"]
    assert ok(capsys, "show", GGML)["path"] == done["path"]
    assert "offline" in refused(capsys, 6, "pull", "no/body", "--offline")
    hub.repos["someone/tuned"] = checkpoint_repo()
    assert ok(capsys, "convert", "someone/tuned", "-o", "out.gguf")["path"] == "out.gguf"
    assert hub.leaked_tokens == 0


def test_a_folder_needs_no_dot_before_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").mkdir()
    assert "has no config.json" in refused(capsys, 2, "pull", "bad")

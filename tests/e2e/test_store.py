"""g4 pull, list, show and remove as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from g4cli.core.paths import models_dir
from tests.support.builders.gguf import BF16, build_gguf, gemma4_keys, write_gguf
from tests.support.run.command import g4, ok


@pytest.fixture
def own(tmp_path: Path) -> Path:
    keys = [
        *gemma4_keys(),
        ("long.words", "[str]", [f"w{i}" for i in range(65)]),
        ("esc", "str", "a\x1b[31mb"),
    ]
    return write_gguf(tmp_path / "own.gguf", keys, [("token_embd.weight", BF16, (64, 16), None)])


@pytest.mark.slow
def test_pull_tiny_then_again(capsys: pytest.CaptureFixture[str]) -> None:
    first = ok(capsys, "pull", "tiny:q4_0")
    assert set(first) >= {"path", "type", "bytes", "seconds", "sha256"}
    assert (first["type"], first["new"]) == ("q4_0", True)
    assert Path(first["path"]).stat().st_size == first["bytes"]
    assert ok(capsys, "pull", "tiny:q4_0")["new"] is False
    assert g4(capsys, "pull", "tiny:q4_0", "-q") == (0, first["path"] + "\n", "")
    code, out, err = g4(capsys, "pull", "tiny:q4_0")
    assert (code, out.splitlines()[0]) == (0, "tiny:q4_0 is already on this disk, 2.96 MiB")
    assert err == "next: g4 chat tiny:q4_0\n"


def test_pull_a_file_list_it_show_it_remove_it(
    capsys: pytest.CaptureFixture[str], own: Path
) -> None:
    assert ok(capsys, "pull", own)["name"] == "own"
    (row,) = ok(capsys, "list")["models"]
    assert (row["name"], row["role"], row["damage"]) == ("own", "model", None)
    assert g4(capsys, "list", "-q") == (0, "own:f32\n", "")
    code, out, _ = g4(capsys, "list")
    assert code == 0
    assert "own:f32" in out
    assert ok(capsys, "show", "own")["path"] == row["path"]
    assert ok(capsys, "remove", "own", "--yes")["bytes"] == row["bytes"]
    assert ok(capsys, "list") == {"models": [], "unfinished": [], "elsewhere": []}
    code, out, err = g4(capsys, "list")
    assert (code, out, err) == (0, "", "no models yet; to get one: g4 pull tiny\n")
    assert own.exists()


@pytest.mark.slow
def test_show_as_json(capsys: pytest.CaptureFixture[str], own: Path) -> None:
    shown = ok(capsys, "show", own)
    assert shown["architecture"] == "gemma4"
    assert shown["keys"]["gemma4.block_count"] == 5
    assert shown["keys"]["gemma4.attention.sliding_window_pattern"] == [
        True,
        True,
        True,
        True,
        False,
    ]
    assert shown["keys"]["long.words"] == {
        "item_type": "string",
        "count": 65,
        "first": [f"w{i}" for i in range(8)],
    }
    assert shown["tensors"] == [
        {"name": "token_embd.weight", "type": "BF16", "shape": [64, 16], "bytes": 2048}
    ]
    assert len(ok(capsys, "show", own, "--full")["keys"]["long.words"]) == 65


@pytest.mark.slow
def test_show_for_people(capsys: pytest.CaptureFixture[str], own: Path) -> None:
    code, out, err = g4(capsys, "show", own)
    assert (code, err) == (0, "")
    for words in (
        "architecture  gemma4, small",
        "context       1,024 tokens",
        "layers        5: 4 sliding (window 512), 1 global",
        "attention     4 heads, 1 for K and V; head size 16 sliding, 32 global",
        "vocabulary    16 tokens, gemma4 (bos 2, eos 1)",
        "BF16",
    ):
        assert words in out
    assert len(out.splitlines()) < 30
    _, out, _ = g4(capsys, "show", own, "--full", "--tensors")
    assert "token_embd.weight" in out
    assert "a\\x1b[31mb" in out  # control characters of a file never reach the terminal
    assert "\x1b" not in out
    assert g4(capsys, "show", own, "-q") == (0, f"{own}\n", "")


@pytest.mark.slow
def test_show_of_the_bundled_model(capsys: pytest.CaptureFixture[str]) -> None:
    ok(capsys, "pull", "tiny")
    _, out, _ = g4(capsys, "show", "tiny")
    assert "layers        10: 8 sliding (window 128), 2 global; the last 5 share K and V" in out
    assert "feed-forward  64 (5 layers), 128 (5)" in out


@pytest.mark.slow
def test_show_of_a_sidecar_and_of_an_unknown_network(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for architecture, words in (
        ("clip", "images and audio"),
        ("gemma4-assistant", "speculative decoding"),
        ("llama", "llama"),
    ):
        path = write_gguf(tmp_path / "x.gguf", [("general.architecture", "str", architecture)])
        code, out, _ = g4(capsys, "show", path)
        assert code == 0
        assert words in out
    path = write_gguf(tmp_path / "x.gguf", [])
    assert "not named" in g4(capsys, "show", path)[1]
    assert ok(capsys, "show", path)["architecture"] == ""


BAD: list[tuple[str, list[str], int, str, str]] = [
    # what, arguments, exit code, words of the error, words of the hint
    ("wrong name", ["pull", "tinny"], 3, "did you mean tiny", "g4 list --available"),
    ("wrong type", ["pull", "tiny:q9"], 2, "has no type 'q9'", "q4_0"),
    ("show of a wrong name", ["show", "tinny"], 3, "did you mean tiny", "g4 list --available"),
    ("not pulled", ["show", "tiny"], 3, "not on this disk yet", "g4 pull tiny"),
    ("missing file", ["show", "./absent.gguf"], 3, "no such file", "g4 list"),
    ("missing file to pull", ["pull", "./absent.gguf"], 3, "no such file", "ls ."),
    ("directory for a file", ["show", "./folder"], 2, "is a directory", "ls folder"),
    ("folder that is no checkpoint", ["pull", "./folder"], 2, "no config.json", "ls folder"),
    ("no gguf", ["show", "./text.gguf"], 5, "not a GGUF", "g4 list"),
    ("no gguf to pull", ["pull", "./text.gguf"], 5, "not a GGUF", "g4 list"),
    ("truncated", ["pull", "./cut.gguf"], 5, "truncated", "g4 doctor"),
    ("empty", ["show", "./empty.gguf"], 5, "empty", "download it again"),
    ("nothing to remove", ["remove", "tiny"], 3, "not in the store", "g4 list"),
    ("remove a path", ["remove", "./cut.gguf"], 2, "is a path", "g4 list"),
    (
        "a name for a known model",
        ["pull", "tiny", "--name", "x"],
        2,
        "local folders",
        "g4 pull tiny",
    ),
    ("a bad name", ["pull", "./good.gguf", "--name", "../x"], 2, "not a valid name", "--name"),
    ("unknown option", ["pull", "tiny", "--fast"], 2, "--fast", "g4 pull --help"),
    ("no argument", ["pull"], 2, "MODEL", "g4 pull --help"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "code", "words", "hint"), [b[1:] for b in BAD], ids=[b[0] for b in BAD]
)
def test_bad_input_gives_one_error_and_a_hint(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    code: int,
    words: str,
    hint: str,
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    Path("folder").mkdir()
    Path("text.gguf").write_text("hello")
    Path("empty.gguf").write_bytes(b"")
    good = build_gguf(gemma4_keys(), [("t", BF16, (64, 16), None)])
    Path("good.gguf").write_bytes(good)
    Path("cut.gguf").write_bytes(good[:-1000])
    before = sorted(os.listdir())
    got, out, err = g4(capsys, *args)
    assert got == code, err
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert [line.split(":")[0] for line in lines] == ["error"] + ["hint"] * (len(lines) - 1)
    assert hint in lines[-1]
    assert sorted(os.listdir()) == before
    assert not models_dir().exists()


def test_errors_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = g4(capsys, "pull", "tinny", "--json")
    assert (code, out) == (3, "")
    assert json.loads(err)["error"]["reference"] == "unknown-model"
    code, out, err = g4(capsys, "list", "--json", "--quiet")
    assert (code, out) == (2, "")
    assert "cannot be used together" in json.loads(err)["error"]["message"]


def test_a_full_disk_leaves_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, out, err = g4(capsys, "pull", "tiny:bf16")
    assert (code, out) == (4, "")
    assert "the disk is full; nothing was written" in err
    assert [p for p in models_dir().rglob("*") if p.is_file()] == []


def test_too_little_space_is_told_before_writing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 20})())
    code, _, err = g4(capsys, "pull", "tiny")
    assert code == 4
    assert "needed, 1.00 MiB free" in err
    assert [p for p in models_dir().rglob("*") if p.is_file()] == []


def test_an_interrupted_pull_leaves_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    assert g4(capsys, "pull", "tiny")[0] == 130
    assert [p for p in models_dir().rglob("*") if p.is_file()] == []


def test_a_store_that_cannot_be_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("G4_HOME", str(tmp_path / "file"))
    code, _, err = g4(capsys, "pull", "tiny")
    assert code == 2
    assert "cannot be written: Not a directory" in err


@pytest.mark.slow
def test_remove_asks_first(capsys: pytest.CaptureFixture[str], own: Path) -> None:
    ok(capsys, "pull", own)
    code, _, err = g4(capsys, "remove", "own")
    assert code == 2
    assert "cannot ask" in err
    assert "hint: add --yes" in err
    assert len(ok(capsys, "list")["models"]) == 1


@pytest.mark.slow
def test_verify_compares_with_what_was_pulled(
    capsys: pytest.CaptureFixture[str], own: Path
) -> None:
    code, out, err = g4(capsys, "verify")
    assert (code, out, err) == (0, "", "no models yet; to get one: g4 pull tiny\n")
    path = Path(ok(capsys, "pull", own)["path"])
    ok(capsys, "pull", "tiny:q4_0")
    done = ok(capsys, "verify")
    assert [f["status"] for f in done["files"]] == ["ok", "ok"]
    assert all(f["sha256"] == f["expected"] for f in done["files"])
    with path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"x")
    code, out, err = g4(capsys, "verify")
    assert code == 5
    assert "was recorded" in out
    linked = path.samefile(own)
    remove = "g4 remove own:f32 --yes"
    changed = f"it came from {own}, which has changed with it; to remove it: {remove}\n"
    assert err == (changed if linked else f"to restore it: {remove} && g4 pull {own}\n")
    os.rename(own, f"{own}.away")
    _, _, err = g4(capsys, "verify")
    assert err == f"it came from {own}, which is gone; to remove it: {remove}\n"
    os.rename(f"{own}.away", own)
    assert g4(capsys, "verify", "tiny:q4_0", "-q") == (0, "", "")
    assert g4(capsys, "verify", "own", "-q") == (5, f"{path}\n", "")
    os.truncate(path, path.stat().st_size - 1)
    code, out, _ = g4(capsys, "verify", "own", "--json")
    assert code == 5
    assert "in its manifest" in json.loads(out)["files"][0]["detail"]
    path.with_name(path.name + ".json").unlink()
    code, out, _ = g4(capsys, "verify", "own", "--json")
    assert code == 5  # rebuilt from a truncated file: no hash, but the header says what is missing
    assert "truncated" in json.loads(out)["files"][0]["detail"]


@pytest.mark.slow
def test_a_damaged_tiny_is_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(ok(capsys, "pull", "tiny:q4_0")["path"])
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"\x99")
    code, _, err = g4(capsys, "verify")
    assert (code, err) == (5, "to restore it: g4 pull tiny:q4_0 --restart\n")
    assert ok(capsys, "pull", "tiny:q4_0", "--restart")["new"] is True
    assert path.read_bytes() == good


@pytest.mark.slow
def test_verify_of_a_file_that_nobody_hashed(capsys: pytest.CaptureFixture[str], own: Path) -> None:
    path = Path(ok(capsys, "pull", own)["path"])
    path.with_name(path.name + ".json").unlink()
    done = ok(capsys, "verify", "own")
    assert (done["ok"], done["files"][0]["status"]) == (True, "unknown")
    assert g4(capsys, "verify", "nobody")[0] == 3


@pytest.mark.slow
def test_as_a_real_process(tmp_path: Path) -> None:
    def process(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from g4cli.cli.main import main; main()", *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    pulled = process("pull", "tiny", "--json")
    assert pulled.returncode == 0
    assert json.loads(pulled.stdout)["type"] == "bf16"
    assert pulled.stderr == ""
    wrong = process("show", str(tmp_path))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: ")
    assert process("list", "-q").stdout == "tiny:bf16\n"

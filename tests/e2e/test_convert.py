"""g4 convert at the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gguf import GGUFReader

from g4cli.cli.main import run
from tests.support.builders import variants
from tests.support.builders.checkpoints import TINY, copy_tiny, edit_json
from tests.support.fakes.hub import FakeHub, FakeRepo, running


@pytest.mark.slow
def test_bf16_by_default_into_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["convert", str(TINY)]) == 0
    assert (tmp_path / "tiny-BF16.gguf").is_file()
    assert "161 tensors" in capsys.readouterr().out
    assert run(["convert", str(TINY)]) == 2
    assert "add --force" in capsys.readouterr().err
    assert run(["convert", str(TINY), "--force", "--quiet"]) == 0
    assert capsys.readouterr().out == "tiny-BF16.gguf\n"


@pytest.mark.slow
@pytest.mark.parametrize("given", ["F32", "Q8_0", "Q4_0", "q4_k", "SFP8"])
def test_json_of_every_kind_of_type(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.gguf"
    kind = {"q4_k": "q4_k_m"}.get(given, given.lower())
    assert run(["convert", str(TINY), "-o", str(target), "--type", given, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["path"], data["type"], data["bytes"]) == (str(target), kind, target.stat().st_size)
    assert data["seconds"] >= 0
    assert sum(data["bytes_by_type"].values()) < data["bytes"]
    types = {t.tensor_type.name for t in GGUFReader(target).tensors}
    assert types == set(data["bytes_by_type"])


@pytest.mark.parametrize(
    ("name", "options", "command"),
    [
        ("gemma-4-E2B-it-assistant", [], "g4 chat MODEL --draft out.gguf"),
        ("gemma-4-E2B-it", ["--mmproj"], "g4 chat MODEL --mmproj out.gguf"),
        ("gemma-4-E2B-it", [], "g4 chat out.gguf"),
    ],
)
def test_the_next_command_is_for_what_was_written(
    name: str,
    options: list[str],
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = variants.write_variant(tmp_path / name, variants.load(name))
    assert run(["convert", str(folder), "-o", "out.gguf", *options]) == 0
    assert f"next: {command} or g4 doctor out.gguf\n" in capsys.readouterr().err


def test_one_pass_equals_convert_then_quantize(tmp_path: Path) -> None:
    """The one pass shares the encoder with g4 quantize; that one is held against llama-quantize
    elsewhere.
    """
    plain, two, one = tmp_path / "plain.gguf", tmp_path / "two.gguf", tmp_path / "one.gguf"
    assert run(["convert", str(TINY), "-o", str(plain), "-q"]) == 0
    assert run(["quantize", str(plain), str(two), "--type", "q4_0", "-q"]) == 0
    assert run(["convert", str(TINY), "-o", str(one), "--type", "q4_0", "-q"]) == 0
    first, second = (
        [(t.name, t.tensor_type, t.data.tobytes()) for t in GGUFReader(p).tensors]
        for p in (two, one)
    )
    assert first == second


@pytest.mark.slow
def test_every_failure_has_its_code_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_tiny(tmp_path / "tiny")
    target = tmp_path / "out" / "out.gguf"

    def fails(code: int, reference: str, *args: str) -> str:
        assert run(["convert", *args, "-o", str(target), "--json"]) == code
        error = json.loads(capsys.readouterr().err)["error"]
        assert error["reference"] == reference
        assert not target.exists()
        assert not list(target.parent.glob("*"))
        return str(error["message"])

    fails(3, "file-missing", str(tmp_path / "nowhere"))
    fails(5, "bad-checkpoint", str(TINY / "config.json"))
    fails(2, "usage", str(folder), "--type", "q9")
    assert "no config.json" in fails(5, "bad-checkpoint", str(tmp_path))
    edit_json(folder / "config.json", {"new_thing": 1})
    assert "unknown key new_thing" in fails(5, "bad-checkpoint", str(folder))
    assert run(["convert", str(folder), "-o", str(target), "--ignore-key", "new_thing", "-q"]) == 0
    target.unlink()
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-1000])
    assert "truncated" in fails(5, "bad-checkpoint", str(folder), "--ignore-key", "new_thing")
    (folder / "config.json").write_text('{"architectures": ["MistralForCausalLM"]}')
    assert "MistralForCausalLM" in fails(5, "bad-checkpoint", str(folder))


def test_a_folder_as_target_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", str(TINY), "-o", str(tmp_path)]) == 2
    assert "is a directory" in capsys.readouterr().err


REPO = "someone/gemma-4-tiny-it"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    files = {
        p.name: p.read_bytes() for p in TINY.iterdir() if p.is_file() and p.suffix != ".safetensors"
    }
    weights = {"model.safetensors": (TINY / "model.safetensors").read_bytes()}
    state = FakeHub(repos={REPO: FakeRepo(lfs=weights, plain=files)})
    with running(state):
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state


@pytest.mark.slow
def test_a_repository_is_fetched_and_names_the_file(
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["convert", f"hf:{REPO}", "--quiet"]) == 0
    assert capsys.readouterr().out == "gemma-4-tiny-it-BF16.gguf\n"
    fields = GGUFReader(tmp_path / "gemma-4-tiny-it-BF16.gguf").fields
    assert fields["general.name"].contents() == "Gemma 4 Tiny It"
    assert run(["convert", f"hf:{REPO}:q4_0", "--quiet"]) == 2
    assert hub.url


def test_nothing_is_fetched_for_a_conversion_that_cannot_be_made(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, words in (
        (["--type", "q9"], "unknown type 'q9'"),
        (["--mmproj", "--type", "q4_0"], "an mmproj file cannot be q4_0"),
        (["-o", str(tmp_path)], "is a directory"),
    ):
        assert run(["convert", f"hf:{REPO}", *options]) == 2
        assert words in capsys.readouterr().err
    assert hub.requests == []

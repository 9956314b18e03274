"""Gemma 4 files of other programs are found, told apart, and never changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from g4cli.cli.main import run
from g4cli.core.paths import hub_cache_dir
from g4cli.store.others import ForeignModel, list_foreign_models
from tests.support.builders.gguf import BF16, Q4_0, build_gguf, gemma4_keys

MODEL = build_gguf(
    gemma4_keys(replace={"general.file_type": ("u32", 2)}),
    [("token_embd.weight", Q4_0, (64, 16), None)],
)
# general.file_type 0: f32
MIXED = build_gguf(
    gemma4_keys(), [("token_embd.weight", BF16, (64, 2), None), ("v.patch_embd", BF16, (4,), None)]
)
LLAMA = build_gguf([("general.architecture", "str", "llama")])
CLIP = build_gguf([("general.architecture", "str", "clip")])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def put_file(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def put_ollama(
    folder: Path, place: str, data: bytes, kind: str = "model", digest: str = "a" * 64
) -> Path:
    layers = [
        {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}"},
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "0" * 64},
    ]
    put_file(folder / "manifests" / place, json.dumps({"layers": layers}).encode())
    return put_file(folder / "blobs" / f"sha256-{digest}", data)


def list_shown() -> list[tuple[str, str, str, bool]]:
    return [(f.program, f.name, f.type, f.usable) for f in list_foreign_models()]


def test_an_empty_disk_has_nothing(home: Path) -> None:
    assert list_foreign_models() == ()
    assert list(home.iterdir()) == []


def test_the_hugging_face_cache_with_each_blob_once(home: Path) -> None:
    blob = put_file(hub_cache_dir() / "models--a--b-GGUF" / "blobs" / "x", MODEL)
    for commit in ("1" * 40, "2" * 40):
        link = hub_cache_dir() / "models--a--b-GGUF" / "snapshots" / commit / "sub" / "m-Q4_0.gguf"
        link.parent.mkdir(parents=True)
        link.symlink_to(blob)
    (row,) = list_foreign_models()
    assert row == ForeignModel(
        "Hugging Face", "a/b-GGUF/m-Q4_0.gguf", "q4_0", row.path, len(MODEL), "model", True
    )
    assert os.path.samefile(row.path, blob)
    assert home


def test_lm_studio_with_its_home_elsewhere(home: Path, tmp_path: Path) -> None:
    put_file(tmp_path / "lms" / "models" / "pub" / "repo" / "m.gguf", MODEL)
    put_file(home / ".lmstudio" / "models" / "pub" / "repo" / "n.gguf", MODEL)
    put_file(home / ".lmstudio-home-pointer", str(tmp_path / "lms").encode())
    assert list_shown() == [
        ("LM Studio", "pub/repo/m.gguf", "q4_0", True),
        ("LM Studio", "pub/repo/n.gguf", "q4_0", True),
    ]


def test_an_empty_pointer_is_not_the_current_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_file(tmp_path / "models" / "pub" / "repo" / "m.gguf", MODEL)
    put_file(home / ".lmstudio-home-pointer", b"\n")
    monkeypatch.chdir(tmp_path)
    assert list_shown() == []


def test_llama_cpps_own_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_file(home / ".cache" / "llama.cpp" / "m.gguf", MODEL)
    assert list_shown() == [("llama.cpp", "m.gguf", "q4_0", True)]
    monkeypatch.setenv("LLAMA_CACHE", str(home / "other"))
    assert list_shown() == []


def test_ollama_and_its_mixed_files(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ollama"
    put_ollama(folder, "registry.ollama.ai/library/gemma4/e2b", MIXED)
    put_ollama(folder, "hf.co/me/mine/latest", MODEL, digest="b" * 64)
    assert list_shown() == [
        ("Ollama", "hf.co/me/mine:latest", "q4_0", True),
        ("Ollama", "gemma4:e2b", "f32", False),
    ]
    assert "only Ollama can load it" in list_foreign_models()[1].note
    assert home


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b'{"layers": 3}', b'{"layers": [1]}', b"\xff", b"[" * 5000]
)
def test_damaged_manifests_of_ollama_are_passed_over(
    home: Path, tmp_path: Path, text: bytes
) -> None:
    put_file(tmp_path / "ollama" / "manifests" / "a" / "b" / "c" / "d", text)
    assert list_shown() == []
    assert home


def test_a_digest_cannot_leave_the_folder(home: Path, tmp_path: Path) -> None:
    put_file(tmp_path / "evil", MODEL)
    layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../evil"}]
    put_file(
        tmp_path / "ollama" / "manifests" / "a" / "b" / "c" / "d",
        json.dumps({"layers": layers}).encode(),
    )
    assert list_shown() == []
    assert home


def test_other_networks_and_broken_files_are_left_out(home: Path) -> None:
    folder = home / ".lmstudio" / "models" / "p" / "gemma-4-E2B-it-GGUF"
    put_file(folder / "llama.gguf", LLAMA)
    put_file(folder / "broken.gguf", MODEL[:-1])
    put_file(folder / "text.gguf", b"hello")
    put_file(folder / "mmproj.gguf", CLIP)
    put_file(home / ".lmstudio" / "models" / "p" / "other" / "mmproj.gguf", CLIP)
    assert [(f.name, f.role) for f in list_foreign_models()] == [
        ("p/gemma-4-E2B-it-GGUF/mmproj.gguf", "mmproj")
    ]


@pytest.mark.slow
def test_they_stand_in_the_list(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put_file(home / ".lmstudio" / "models" / "p" / "r" / "m.gguf", MODEL)
    assert run(["list"]) == 0
    out = capsys.readouterr().out
    assert "LM Studio: p/r/m.gguf  q4_0, model, " in out
    assert f"  {path}" in out
    assert run(["list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["elsewhere"]
    assert row["path"] == str(path)
    assert run(["show", str(path), "-q"]) == 0

"""Every directory follows G4_HOME, then the XDG variables."""

from __future__ import annotations

import pwd
import sys
from pathlib import Path

import pytest

from g4cli.core import paths


def test_g4_home_holds_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("G4_HOME", str(tmp_path))
    assert paths.models_dir() == tmp_path / "data" / "models"
    assert paths.cache_dir() == tmp_path / "cache"
    assert paths.state_dir() == tmp_path / "state"
    assert list(tmp_path.iterdir()) == []  # asking creates nothing


def test_g4_home_may_start_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("G4_HOME", "~/g4")
    assert paths.data_dir() == tmp_path / "g4" / "data"


def test_xdg_variables_are_honoured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("G4_HOME")
    for kind in ("DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
    if sys.platform != "darwin":
        assert paths.data_dir() == tmp_path / "DATA" / "g4"
        assert paths.cache_dir() == tmp_path / "CACHE" / "g4"
        assert paths.state_dir() == tmp_path / "STATE" / "g4"


def test_without_any_variable_the_home_folder_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("G4_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (paths.data_dir(), paths.cache_dir(), paths.state_dir()):
        assert tmp_path in folder.parents
        assert folder.name == "g4"


def test_the_bundled_checkpoint_is_in_the_package() -> None:
    assert (paths.tiny_dir() / "config.json").is_file()


@pytest.mark.parametrize(
    ("value", "expected"), [("", False), ("0", False), ("1", True), ("yes", True)]
)
def test_debug(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("G4_DEBUG", value)
    assert paths.wants_tracebacks() is expected


@pytest.mark.parametrize("text", ["~nobody-here/a", "~5 minutes", "~\0/a", "a~b"])
def test_what_names_no_home_stays_as_it_is(text: str) -> None:
    assert paths.expand_home(text) == paths.expand_home(Path(text)) == Path(text)


def test_a_user_without_a_home_has_no_files_of_other_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def know_nobody(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", know_nobody)
    folders = (*paths.lm_studio_dirs(), *paths.ollama_dirs(), paths.llama_cpp_dir())
    assert not any(folder.exists() for folder in folders if not folder.is_absolute())

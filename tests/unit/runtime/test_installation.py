"""The command that installs llama.cpp, and where its libraries are."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from g4cli.runtime.llama.installation import hash_library, install_command, library_folder


def test_a_python_in_a_folder_with_a_space_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/my tools/bin/python")
    assert shlex.split(install_command())[:3] == ["/my tools/bin/python", "-m", "pip"]


@pytest.mark.parametrize("folder", ["", "no-such-folder"])
def test_the_folder_of_libraries_is_the_one_that_llama_cpp_takes(
    folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", folder)
    assert library_folder() == Path(folder), "llama_cpp tests whether the variable is there"
    assert hash_library() == ""

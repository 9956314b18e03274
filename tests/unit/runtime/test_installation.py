"""The command that installs llama.cpp."""

from __future__ import annotations

import shlex

import pytest

from g4cli.runtime.llama.installation import install_command


def test_a_python_in_a_folder_with_a_space_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/my tools/bin/python")
    assert shlex.split(install_command())[:3] == ["/my tools/bin/python", "-m", "pip"]

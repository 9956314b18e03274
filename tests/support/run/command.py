"""Run g4 in this process: exit code and output, or the JSON document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from g4cli.cli.main import run


def g4(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    """Run g4 in this process; return its exit code, standard output and standard error."""
    capsys.readouterr()
    code = run([str(a) for a in args])
    out, err = capsys.readouterr()
    return code, out, err


def ok(capsys: pytest.CaptureFixture[str], *args: str | Path) -> Any:
    """Run g4 with --json; return the document."""
    code, out, err = g4(capsys, *args, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)

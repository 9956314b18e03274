"""Limits of memory and features of the CPU, read from copies of the kernel's files."""

from __future__ import annotations

import pytest

from g4cli import host
from g4cli.core.errors import RuntimeFailed
from g4cli.core.units import GIB

TOTAL, AVAILABLE = 16 * GIB, 8 * GIB


def test_a_probe_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeFailed, match="could not list its devices"):
        host.refresh_gpus()

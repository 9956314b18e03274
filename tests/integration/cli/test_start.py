"""Ctrl-C while g4 still loads its libraries: exit code 130 and not a word."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.builders.tiny_file import build_tiny

# A library that meets Ctrl-C in the middle of its import, and one that hides it besides.
PRESSES = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
for _ in range(10**7): pass
"""
HIDES = f"""
try:
    {PRESSES.strip().replace(chr(10), chr(10) + "    ")}
except BaseException:
    raise ImportError("no interrupt here") from None
"""


@pytest.mark.parametrize(
    ("module", "text"), [("typer", PRESSES), ("typer", HIDES), ("numpy", PRESSES)]
)
def test_ctrl_c_during_the_imports(tmp_path: Path, module: str, text: str) -> None:
    (tmp_path / f"{module}.py").write_text(text)
    (tmp_path / "tiny.gguf").write_bytes(build_tiny())
    start = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"sys.path.insert(0, {str(tmp_path)!r}); from g4cli.cli.start import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, "quantize", tmp_path / "tiny.gguf", tmp_path / "x.gguf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.slow
def test_an_ignored_interrupt_stays_ignored() -> None:
    code = (
        "import signal; from g4cli.cli.start import main\n"
        "import sys; sys.argv = ['g4', '--version']\n"
        "try: main()\nfinally: print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert done.stdout.endswith("True\n"), done.stderr

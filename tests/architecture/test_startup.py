"""`g4 --help` starts fast, because it loads no heavy library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.builders.tiny_file import build_tiny

HEAVY = {
    "numpy",
    "llama_cpp",
    "huggingface_hub",
    "jinja2",
    "prompt_toolkit",
    "torch",
    "transformers",
    "gguf",
    "fastapi",
    "uvicorn",
}

PROBE = """
import json, sys
from g4cli.cli.main import run
code = run({args!r})
print("MODULES", json.dumps([code, sorted({{name.split(".")[0] for name in sys.modules}})]))
"""


def loaded_by(*args: str, before: str = "") -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", before + PROBE.format(args=list(args))],
        capture_output=True,
        text=True,
        check=True,
    )
    code, names = json.loads(done.stdout.rpartition("MODULES ")[2])
    assert code == 0, done.stdout + done.stderr
    return set(names)


def test_help_loads_nothing_heavy() -> None:
    assert not loaded_by("--help") & HEAVY


def test_a_commands_help_loads_nothing_heavy() -> None:
    assert not loaded_by("chat", "--help") & HEAVY


def test_version_loads_nothing_heavy() -> None:
    assert not loaded_by("--version") & HEAVY


def test_the_probe_sees_a_heavy_module() -> None:
    assert "numpy" in loaded_by("--version", before="import numpy") & HEAVY


@pytest.mark.slow
def test_a_chat_loads_no_llama_cpp(tmp_path: Path) -> None:
    """llama.cpp runs in the worker process only."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(build_tiny())
    for command in ("chat", "bench"):
        args = ["-p", "Hi", "-n", "2"] if command == "chat" else ["-p", "4", "-n", "2", "-r", "1"]
        assert not loaded_by(command, str(path), *args) & {"llama_cpp", "llguidance"}

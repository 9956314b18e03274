"""The built wheel, alone in an empty environment, does its first job: a forgotten dependency shows here.

Run by `make check`. llama.cpp is not compiled again: the wheel that pip keeps from `make setup` is used.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    ["--version"],
    ["--help"],
    ["pull", "tiny"],
    ["show", "tiny"],
    ["list"],
)


def run(*command: str | Path, **env: str) -> None:
    """Run `command` quietly; show everything and leave if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=os.environ | env,
        check=False,
    )
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        sys.exit(f"smoke: {' '.join(map(str, command))} left with {done.returncode}")


def llama_cpp_wheel(folder: Path) -> None:
    """Put the llama-cpp-python that this environment runs into `folder` as a wheel."""
    pin = re.search(
        r'"(llama-cpp-python==[^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert pin, "pyproject.toml pins llama-cpp-python"
    flags = subprocess.run(
        [sys.executable, ROOT / "g4cli/core/build_flags.py"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-binary",
        "llama-cpp-python",
        "--wheel-dir",
        folder,
        pin[1],
        CMAKE_ARGS=flags,
    )


def main() -> None:
    """Build, install, run; everything lies in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="g4-smoke-") as name:
        folder = Path(name)
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
        run(*pip, "wheel", "--no-deps", "--wheel-dir", folder / "wheels", ROOT)
        llama_cpp_wheel(folder / "wheels")
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv/bin/python"
        wheel = next((folder / "wheels").glob("g4cli-*.whl"))
        run(
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--find-links",
            folder / "wheels",
            wheel,
        )
        for arguments in COMMANDS:
            run(folder / "venv/bin/g4", *arguments, G4_HOME=str(folder / "home"))
    print(f"smoke: the wheel runs {', '.join('g4 ' + ' '.join(c) for c in COMMANDS)}")


if __name__ == "__main__":
    main()

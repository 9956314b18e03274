"""The built wheel, alone in an empty environment, does its first job: a forgotten dependency shows
here.

Run by `make check`. llama.cpp is not compiled again: the installed one is packed into a wheel.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from importlib import metadata
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


def pack_llama_cpp(folder: Path) -> None:
    """Put the llama-cpp-python that this environment runs into `folder` as a wheel: nothing is
    compiled.

    Format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    installed = metadata.distribution("llama-cpp-python")
    tag = re.search(r"^Tag: (\S+)$", installed.read_text("WHEEL") or "", re.MULTILINE)
    assert tag, "an installed wheel names its tag"
    made_by_pip = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
    files = [
        file
        for file in installed.files or []
        if ".." not in file.parts and file.suffix != ".pyc" and file.name not in made_by_pip
    ]
    stem = f"llama_cpp_python-{installed.version}"
    with zipfile.ZipFile(folder / f"{stem}-{tag[1]}.whl", "w") as wheel:
        for file in files:
            wheel.write(str(file.locate()), file.as_posix())
        rows = [f"{f.as_posix()},{f.hash.mode}={f.hash.value},{f.size}" for f in files if f.hash]
        record = f"{stem}.dist-info/RECORD"
        wheel.writestr(record, "\n".join([*rows, f"{record},,", ""]))


def main() -> None:
    """Build, install, run; everything lies in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="g4-smoke-") as name:
        folder = Path(name)
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
        run(*pip, "wheel", "--no-deps", "--wheel-dir", folder / "wheels", ROOT)
        pack_llama_cpp(folder / "wheels")
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

"""Install the built wheel into an empty environment and run some commands.

A file or dependency that the package forgets shows here. The wheel is built from the source
distribution, as pip would build it. llama.cpp is not compiled again: the installed one is packed
into a wheel. Run by `make check`.
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


# Packages that must be inside g4cli, and only there.
INSIDE = ("converters", "quant")


def run_command(*command: str | Path, **env: str) -> None:
    """Run `command` without output; if it fails, print its output and exit."""
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
        sys.exit(f"smoke: {' '.join(map(str, command))} exited with {done.returncode}")


def pack_llama_cpp(folder: Path) -> None:
    """Write the installed llama-cpp-python to `folder` as a wheel.

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


def check_names(wheel: Path) -> None:
    """Exit with a message if `wheel` installs more than g4cli, or lacks a source file."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {n.split("/")[0] for n in names if not n.split("/")[0].endswith((".dist-info", ".data"))}
    if tops != {"g4cli"}:
        sys.exit(f"smoke: the wheel installs {', '.join(sorted(tops))}")
    sources = {p.relative_to(ROOT).as_posix() for p in (ROOT / "g4cli").rglob("*.py")}
    for inside in INSIDE:
        sources |= {f"g4cli/{p.relative_to(ROOT)}" for p in (ROOT / inside).rglob("*.py")}
    missing = sources - set(names)
    if missing:
        sys.exit(f"smoke: the wheel lacks {', '.join(sorted(missing))}")


def main() -> None:
    """Build, install and run g4 in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="g4-smoke-") as name:
        folder = Path(name)
        run_command(sys.executable, "-m", "build", "--outdir", folder / "wheels", ROOT)
        pack_llama_cpp(folder / "wheels")
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv/bin/python"
        wheel = next((folder / "wheels").glob("g4cli-*.whl"))
        check_names(wheel)
        pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
        run_command(*pip, "install", "--find-links", folder / "wheels", wheel)
        for package in INSIDE:
            run_command(python, "-I", "-c", f"import g4cli.{package}")
            absent = (
                f"import importlib.util as i, sys; sys.exit(i.find_spec({package!r}) is not None)"
            )
            run_command(python, "-I", "-c", absent)
        for arguments in COMMANDS:
            run_command(folder / "venv/bin/g4", *arguments, G4_HOME=str(folder / "home"))
    print(f"smoke: the wheel runs {', '.join('g4 ' + ' '.join(c) for c in COMMANDS)}")


if __name__ == "__main__":
    main()

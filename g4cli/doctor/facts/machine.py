"""Read the facts about this machine: Python, libraries, disk, folders, terminal."""

from __future__ import annotations

import importlib.metadata
import locale
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.core.files import existing_folder
from g4cli.core.paths import cache_dir, data_dir, state_dir
from g4cli.doctor.probe.engine import EngineFacts

# Distributions, a choice among those in pyproject.toml: a bug report lists them in one line.
LIBRARIES: Final = (
    "llama-cpp-python", "numpy", "typer", "rich", "prompt_toolkit", "jinja2", "platformdirs",
    "huggingface_hub",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What is known about this machine; sizes in bytes.

    `versions` maps a library to its version, '' if it is not installed. `folders` pairs each folder
    of g4 with the reason why it cannot be written, '' if it can. `memory_total` and `memory_free`
    are what this process may use in all and now, limits of control groups included, 0 if unknown.
    `disk_free` is the room on the disk of `disk_path`, where models are kept. `encoding` is that of
    the terminal's text. `terminal` describes the terminal; it is shown only if `encoding` is UTF-8.
    """

    python: str
    system: str
    versions: dict[str, str]
    memory_total: int
    memory_free: int
    folders: tuple[tuple[str, str], ...]
    disk_free: int
    disk_path: str
    encoding: str
    terminal: str
    engine: EngineFacts


def read_machine(engine: EngineFacts, *, memory_total: int, memory_free: int) -> MachineFacts:
    """Return the facts about this machine.

    `engine` is the answer of a child process (`probe.engine.ask_engine`), which is not started
    here. The bytes of memory are read by `g4cli.host`, which the doctor may not import.
    """
    home = data_dir()
    return MachineFacts(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        versions={name: installed_version(name) for name in LIBRARIES},
        memory_total=memory_total,
        memory_free=memory_free,
        folders=tuple((str(d), _write_error(d)) for d in (home, cache_dir(), state_dir())),
        disk_free=shutil.disk_usage(existing_folder(home)).free,
        disk_path=str(home),
        encoding=locale.getpreferredencoding(False),
        terminal=_describe_terminal(),
        engine=engine,
    )


def installed_version(name: str) -> str:
    """Return the version of a distribution, or '' if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _write_error(folder: Path) -> str:
    """Return why `folder` cannot be written, or cannot be created, or ''."""
    try:
        with tempfile.TemporaryFile(dir=existing_folder(folder)):
            return ""
    except OSError as err:
        return err.strerror or str(err)


def _describe_terminal() -> str:
    if not sys.stdout.isatty():
        return "standard output is not a terminal: plain text, no colors"
    size = shutil.get_terminal_size()
    colors = "no colors (NO_COLOR)" if os.environ.get("NO_COLOR") else "colors"
    return f"{os.environ.get('TERM', 'unknown terminal')}, {size.columns} columns, {colors}, UTF-8"

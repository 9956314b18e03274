"""Install llama-cpp-python with pip, and show the progress of its compilation.

    python tools/build_llama.py "llama-cpp-python==X.Y.Z" [pip's options]

pip prints nothing for the minutes in which it compiles llama.cpp. Here it runs with verbose output,
and one line of progress is shown: a terminal shows it in place, a log file gets a line now and
then. All output is kept in a file; if pip fails, its errors and last lines are printed and its exit
code is returned. pip uses a cached wheel of an earlier compilation again, unless an option forbids
it.

This script runs before anything is installed, so it uses only the standard library.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

# "[12/345] Building CXX object ..." of Ninja, "[  3%] Building CXX object ..." of make.
NINJA = re.compile(r"^\s*\[(\d+)/(\d+)\] ")
MAKE = re.compile(r"^\s*\[ *(\d+)%\] ")
# The beginnings of pip's lines. Those about the build's own requirements are indented.
PHASES = (
    ("Collecting llama", "looking for the sources"),
    ("  Downloading llama", "downloading"),
    ("  Using cached llama", "using the wheel in pip's cache"),
    ("  Installing build dependencies", "installing the build's requirements"),
    ("  Preparing metadata", "unpacking the sources"),
    ("  Building wheel", "configuring"),
    ("Installing collected packages", "installing"),
)
ERROR = re.compile(r"\berror\b|\bfatal\b|FAILED:|undefined reference|Killed", re.IGNORECASE)
LAST_LINES = 40
MAX_ERRORS = 20
# Processor minutes of a compilation: 8 to 15 were measured on x86-64 of 2018 to 2023.
CPU_MINUTES = (8, 16)
PAUSE_S = 30.0  # between two lines of progress without a terminal


def count_cores() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_duration(n_cores: int) -> str:
    """Return how long a compilation takes.

    >>> describe_duration(2)
    'about 4 to 8 minutes on 2 cores'
    """
    least, most = (max(1, round(minutes / n_cores)) for minutes in CPU_MINUTES)
    length = f"{least} to {most} minutes" if least < most else "a minute"
    return f"about {length} on {n_cores} core{'s' * (n_cores > 1)}"


class Progress:
    """Writes to `out` how far pip is, according to the lines that it prints."""

    def __init__(self, out: TextIO, *, is_terminal: bool, columns: int = 80) -> None:
        self._out, self._is_terminal, self._columns = out, is_terminal, columns
        self._started = time.monotonic()
        self._shown, self._shown_at = "", -PAUSE_S

    def read_line(self, line: str) -> None:
        """Update the progress from one line of pip's output."""
        if found := NINJA.match(line):
            done, total = int(found[1]), int(found[2])
            self._show(f"compiling: file {done} of {total} ({100 * done // total} %)")
        elif found := MAKE.match(line):
            self._show(f"compiling: {found[1]} %")
        else:
            phase = next((text for start, text in PHASES if line.startswith(start)), "")
            if phase:
                self._show(phase, is_new=True)

    def close(self, last: str) -> None:
        """Replace the line of progress by `last`."""
        self._write_line(last)
        self._out.write("\n" if self._is_terminal else "")
        self._out.flush()

    def _show(self, text: str, *, is_new: bool = False) -> None:
        now = time.monotonic()
        if text == self._shown:
            return
        if not self._is_terminal and not is_new and now - self._shown_at < PAUSE_S:
            return
        self._shown, self._shown_at = text, now
        self._write_line(text)

    def _write_line(self, text: str) -> None:
        seconds = int(time.monotonic() - self._started)
        line = f"  llama.cpp: {text}, {seconds // 60}:{seconds % 60:02d}"
        if self._is_terminal:
            width = max(20, self._columns - 1)
            self._out.write("\r" + line[:width].ljust(width))
        else:
            self._out.write(line + "\n")
        self._out.flush()


def select_errors(lines: Sequence[str]) -> Iterable[str]:
    """Return the last LAST_LINES lines, after those before them that name an error."""
    errors = [line for line in lines[:-LAST_LINES] if ERROR.search(line)]
    return [*errors[:MAX_ERRORS], *lines[-LAST_LINES:]]


def run_pip(
    command: Sequence[str], log: Path, out: TextIO, *, is_terminal: bool, columns: int
) -> int:
    """Return the exit code of `command`; show its progress on `out`, write its output to `log`."""
    n_cores = count_cores()
    environment = {"CMAKE_BUILD_PARALLEL_LEVEL": str(n_cores), **os.environ}
    progress = Progress(out, is_terminal=is_terminal, columns=columns)
    lines: list[str] = []
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            start_new_session=True,  # so that its compilers can be killed with it
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        assert process.stdout
        try:
            for line in process.stdout:
                file.write(line)
                lines.append(line.rstrip())
                progress.read_line(line)
            code = process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    progress.close("done" if code == 0 else f"failed with exit code {code}")
    if code:
        out.write("\n".join([*select_errors(lines), f"The complete output is in {log}", ""]))
    return code


def main(args: Sequence[str]) -> int:
    """Return pip's exit code for the installation of `args[0]`; other arguments go to pip."""
    out = sys.stderr
    out.write(
        f"Installing {args[0]}. Compiling llama.cpp takes {describe_duration(count_cores())},"
        " unless pip has it in its cache.\n"
    )
    command = [sys.executable, "-m", "pip", "install", "--verbose", "--progress-bar", "off",
               "--disable-pip-version-check", "--no-binary", "llama-cpp-python", *args]  # fmt: skip
    log = Path(sys.prefix) / "llama-cpp-python.log"
    try:
        columns = os.get_terminal_size(out.fileno()).columns
    except (OSError, ValueError):
        columns = 80
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run_pip(command, log, out, is_terminal=out.isatty(), columns=columns)
    except KeyboardInterrupt:
        out.write("\nstopped\n")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

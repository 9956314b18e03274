"""Run a program in a pseudo-terminal and read its screen through a terminal emulator."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from fcntl import ioctl
from pathlib import Path
from types import TracebackType
from typing import Final

import pyte

# How long a program may show nothing new. Only one that hangs takes longer, on any machine.
PATIENCE_S: Final = 300.0


class Terminal:
    """Runs `args` at 80 x 24 and keeps the screen. Use as a context manager.

    At Ctrl-C a terminal throws away what was written and not read yet, and with it, if the program
    is quick, what it answers to Ctrl-C. With `keeps_output` it does not.
    """

    def __init__(
        self,
        args: Sequence[str],
        env: Mapping[str, str],
        *,
        columns: int = 80,
        rows: int = 24,
        keeps_output: bool = False,
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=2000, ratio=0.1)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.exit_code: int | None = None
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            # Here, not in the parent: the program must not start before the window has its size.
            ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            if keeps_output:
                attributes = termios.tcgetattr(0)
                attributes[3] |= termios.NOFLSH
                termios.tcsetattr(0, termios.TCSANOW, attributes)
            os.execvpe(args[0], list(args), {**os.environ, "TERM": "xterm-256color", **env})

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    @property
    def text(self) -> str:
        """Everything that was ever shown, one line per line, without trailing spaces."""
        past = [
            "".join(line[x].data for x in range(self.screen.columns))
            for line in self.screen.history.top
        ]
        return "\n".join(line.rstrip() for line in (*past, *self.screen.display)).rstrip()

    def send(self, text: str) -> None:
        """Type `text`."""
        os.write(self._fd, text.encode())

    def enter(self, line: str) -> None:
        """Type a line and press Enter."""
        self.send(line + "\r")

    def wait_for(self, wanted: str, *, count: int = 1, seconds: float = PATIENCE_S) -> float:
        """Read until `wanted` is shown `count` times; return the seconds it took. Fails with the
        screen if the program ends or takes longer than `seconds`.
        """
        started = time.monotonic()
        while self.text.count(wanted) < count:
            left = started + seconds - time.monotonic()
            if not self._read(max(0.0, left)):
                is_late = time.monotonic() >= started + seconds
                why = "it took too long" if is_late else "the program has closed its terminal"
                raise AssertionError(
                    f"{wanted!r} x {count} is not on the screen ({why}):\n{self.text}"
                )
        return time.monotonic() - started

    def wait_until_it_reads(self) -> None:
        """Wait until the program sleeps in a read of its terminal, where the system tells (Linux).

        Python's `input` acts on a Ctrl-C that comes between its prompt and its read only when the
        next line comes.
        """
        call = Path(f"/proc/{self.pid}/syscall")
        end = time.monotonic() + PATIENCE_S
        with contextlib.suppress(OSError):
            # Number of the system call, then its arguments: the first of `read` is the file's.
            while call.read_text().split()[1:2] != ["0x0"]:
                assert time.monotonic() < end, "the program does not read its terminal"
                time.sleep(0.01)

    def wait_end(self, seconds: float = PATIENCE_S) -> int:
        """Read until the program ends; return its exit code, or minus the signal's number."""
        end = time.monotonic() + seconds
        while self._read(max(0.0, end - time.monotonic())):
            pass
        while (ended := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > end:
                raise AssertionError(f"the program does not end:\n{self.text}")
            time.sleep(0.01)
        self.exit_code = os.waitstatus_to_exitcode(ended[1])
        return self.exit_code

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            return False
        self.raw += data
        self._stream.feed(data)
        # prompt_toolkit asks where the cursor is; a terminal answers.
        if b"\x1b[6n" in data:
            self.send(f"\x1b[{self.screen.cursor.y + 1};{self.screen.cursor.x + 1}R")
        return bool(data)

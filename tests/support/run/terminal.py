"""A program in a real pseudo-terminal, seen through a terminal emulator: what a user would see."""

from __future__ import annotations

import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from fcntl import ioctl
from types import TracebackType

import pyte


class Terminal:
    """Runs `args` at 80 x 24 and keeps the screen. Use as a context manager."""

    def __init__(
        self, args: Sequence[str], env: Mapping[str, str], *, columns: int = 80, rows: int = 24
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=2000, ratio=0.1)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.exit_code: int | None = None
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe(args[0], list(args), {**os.environ, "TERM": "xterm-256color", **env})
        ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

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

    def wait_for(self, wanted: str, *, count: int = 1, seconds: float = 60) -> float:
        """Read until `wanted` is shown `count` times; return the seconds it took. Fails with the
        screen.
        """
        started = time.monotonic()
        while self.text.count(wanted) < count:
            left = started + seconds - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(f"{wanted!r} x {count} is not on the screen:\n{self.text}")
        return time.monotonic() - started

    def wait_end(self, seconds: float = 60) -> int:
        """Read until the program ends; return its exit code, or minus the signal's number."""
        end = time.monotonic() + seconds
        while self._read(max(0.0, end - time.monotonic())):
            pass
        _, status = os.waitpid(self.pid, 0)
        self.exit_code = os.waitstatus_to_exitcode(status)
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

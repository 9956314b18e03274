"""Functions of Python as tools: they run in a process of their own, which can be ended.

A function that hangs or crashes takes its process along, and the next call starts a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from g4cli.core.child import Child, exit_text, start_child
from g4cli.core.errors import UsageError
from g4cli.core.files import require_file
from g4cli.core.paths import expand_home
from g4cli.operations.tools.function_child import MAX_RESULT_BYTES
from g4cli.operations.tools.tool import Tool, ToolFailed, open_log

MODULE: Final = "g4cli.operations.tools.function_child"
START_S: Final = 60.0
"""Most seconds that the import of the functions may take; a choice, as the next one."""

CALL_S: Final = 60.0
"""Most seconds that a function may take."""

_READ_BYTES: Final = 1 << 16  # what a pipe of Linux holds


class FunctionProcess:
    """The process with the functions. Close it when done."""

    def __init__(self, references: Sequence[str], path: Path | None, log: Path) -> None:
        """Start it, and load the functions MODULE:FUNCTION and the public ones of a file.

        What they print goes to the file `log`. Raises UsageError or FileMissing.
        """
        if path is not None:
            path = require_file(expand_home(path)).absolute()
        self._start = {
            "environment": dict(os.environ),  # child processes start without, and functions use it
            "references": list(references),
            "path": None if path is None else str(path),
        }
        self._log = open_log(log)
        self._child: Child | None = None
        try:
            self.tools = self._load()
        except ToolFailed as err:
            self.close()
            raise UsageError(
                f"the functions of --tool and --tools cannot be loaded: {err}",
                hint=f"what they print is in {log}",
            ) from err
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process, and what its functions started."""
        self._end_child()
        self._log.close()

    def _load(self) -> list[Tool]:
        """Start the process, and return its functions as tools."""
        self._child = start_child(MODULE, ignore_interrupt=True, stderr=self._log.fileno())
        reply = self._ask(self._start, START_S)
        if "error" in reply:
            raise UsageError(reply["error"], hint=reply["hint"])
        return [
            Tool(declaration, source, partial(self._call, declaration["function"]["name"]))
            for declaration, source in reply["functions"]
        ]

    def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Return what a function returns. Raises ToolFailed."""
        if self._child is None or self._child.poll() is not None:
            self._end_child()
            try:
                self._load()
            except UsageError as err:
                raise ToolFailed(err.message) from err
        reply = self._ask({"function": name, "arguments": dict(arguments)}, CALL_S)
        if "failed" in reply:
            raise ToolFailed(reply["failed"])
        return reply["result"]

    def _ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Return the reply to a request. Raises ToolFailed, after the process has been ended."""
        child = self._child
        assert child is not None
        assert child.stdin is not None
        end = time.monotonic() + timeout_s
        try:
            with contextlib.suppress(OSError):  # that it has ended shows in its reply
                child.stdin.write(json.dumps(request).encode() + b"\n")
                child.stdin.flush()
            line = _read_line(child, end)
            if line == b"":  # a function may close the pipe, too, and go on
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = child.wait(max(0.0, end - time.monotonic()))
                    raise ToolFailed(f"its process ended: {exit_text(status)}")
            if not line:
                raise ToolFailed(f"it took more than {timeout_s:.0f} seconds")
            reply: dict[str, Any] = json.loads(line)
            return reply
        except BaseException:  # Ctrl-C too: nobody would read its reply
            self._end_child()
            raise

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if os.name == "posix":  # the functions may have started processes
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
        child.close()


def _read_line(child: Child, end: float) -> bytes | None:
    """Return the next line that a child writes, b"" at its end, None if it takes too long.

    `end`: until when, by the clock `time.monotonic`.
    """
    assert child.stdout is not None
    fd = child.stdout.fileno()
    data = bytearray()
    while not data.endswith(b"\n"):
        if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
            return None
        part = os.read(fd, _READ_BYTES)
        # More than any reply has: a function writes to this pipe itself.
        if not part or len(data) > 2 * MAX_RESULT_BYTES:
            return b""
        data += part
    return bytes(data)

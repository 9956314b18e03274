"""A worker process of g4, seen from the process that uses it: requests go in, answers come out.

The worker runs llama.cpp on files that nobody has checked, so it may end at any moment, by any
signal. Its end is an error like any other: `WorkerProcess.read_answers` raises what ending.py makes
of it, and a caller that wants to continue starts another worker.

Ctrl-C reaches this process alone (the worker ignores it). While a request runs, the first press
asks the worker to cancel it. A worker that does not obey within `PATIENCE_S` is stuck in C: then
the next press kills it. One that still starts or loads a file holds nothing worth waiting for: the
first press kills.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from g4cli.core.child import NO_VARIABLES, start_child
from g4cli.core.errors import G4Error, Interrupted, RuntimeFailed
from g4cli.core.progress import Progress as ProgressCallback
from g4cli.core.progress import no_progress
from g4cli.runtime.engine.codec import READ_BYTES, Codec, FrameReader, ProtocolError, write_all
from g4cli.runtime.engine.ctrl_c import CtrlC
from g4cli.runtime.engine.ending import count_oom_kills, make_exit_error
from g4cli.runtime.engine.messages import Cancel, Done, Failed, Opening, Progress

PATIENCE_S: Final = 2.0  # a choice: twenty times what a worker takes to stop
# How often a waiting process looks whether Ctrl-C was pressed in the moment before it began to
# wait.
_POLL_S: Final = 0.05
END_S: Final = 5.0  # a choice, for a process that has closed its pipe to end
_KEPT_BYTES: Final = 1 << 16  # of standard error: the reason for an abort is at its end
# glibc asks Linux for pages of 2 MiB where it allocates that much: to read the weights takes fewer
# look-ups of addresses, and E2B answers some per cent faster. Other C libraries ignore it.
LARGE_PAGES: Final[Mapping[str, str]] = MappingProxyType(
    {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
)


class ModelProcess:
    """A process that holds a model, with the ends of its pipes: what is the same for all clients.

    Large pages are asked for in all of them, so that measurements hold for chats.
    """

    def __init__(
        self, module: str, codec: Codec, environment: Mapping[str, str] = NO_VARIABLES
    ) -> None:
        """Start `module`, which serves messages of `codec`.

        `environment`: variables that it gets in addition. Raises RuntimeFailed if the system starts
        no process.
        """
        self._codec, self._oom_kills = codec, count_oom_kills()
        try:
            self._child = start_child(
                module, ignore_interrupt=True, environment={**LARGE_PAGES, **environment}
            )
        except OSError as err:
            raise RuntimeFailed(f"the system starts no process for the model: {err}") from err
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        self._into = self._child.stdin.fileno()
        self._out = self._child.stdout.fileno()
        self._stderr = self._child.stderr.fileno()
        self._frames = FrameReader(self._out)
        self._said = bytearray()  # the end of its standard error; nothing of it is shown as it is
        self._number = 0  # of the last request; number 0 is the start, answered with Hello
        self.current_file: Path | None = None  # the file that a crash is blamed on
        self._opening: Path | None = None  # the file that is being loaded

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        return self._child.pid

    def _keep_stderr(self) -> bool:
        """Take in a part of its standard error; return False at its end."""
        data = os.read(self._stderr, READ_BYTES)
        self._said += data
        del self._said[:-_KEPT_BYTES]
        return bool(data)

    def _make_exit_error(self, status: int) -> G4Error:
        """Return the error that says how the process ended."""
        return make_exit_error(
            status,
            self._said.decode("utf-8", "replace"),
            current_file=self.current_file,
            opening=self._opening,
            out_of_memory=None if self._oom_kills is None else count_oom_kills() != self._oom_kills,
        )


class WorkerProcess(ModelProcess):
    """One worker process. Close it when done; use it from one thread."""

    def __init__(
        self,
        module: str,
        codec: Codec,
        ctrl_c: CtrlC | None = None,
        *,
        end_s: float = END_S,
        environment: Mapping[str, str] = NO_VARIABLES,
    ) -> None:
        """Start it as ModelProcess does.

        `ctrl_c`: where presses are counted; it has to call `handle_interrupt`. `end_s`: how long to
        wait for a process that closed its pipe.
        """
        super().__init__(module, codec, environment)
        self._ctrl_c, self._end_s = ctrl_c, end_s
        self._stderr_reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._stderr_reader.start()
        self._running = False  # whether a request is being answered
        self._starting = True
        self._writing = False  # whether a frame is being written
        self._cancel_due = False  # whether Ctrl-C came meanwhile: a Cancel follows the frame
        self._cancelled_at = 0.0  # when Ctrl-C asked for that, by time.monotonic; 0: not yet
        self._killed = False

    @property
    def has_ended(self) -> bool:
        """Return whether the process is gone."""
        return self._child.poll() is not None

    def send_request(self, message: Any) -> int:
        """Send a request and return its number.

        Raises what the end of the worker raises, or Interrupted.
        """
        if self._ctrl_c and self._ctrl_c.is_set:
            raise Interrupted("")
        self._number += 1
        self._cancelled_at, self._running = 0.0, True
        self._send_message(self._number, message)
        return self._number

    def read_answers(self, number: int, progress: ProgressCallback = no_progress) -> Iterator[Any]:
        """Yield the answers to a request until it is done.

        Raises the error with which the request failed, or one that says how the worker ended. A
        caller that stops before the last answer cancels the request.
        """
        done = False
        try:
            while True:
                answer = self._read_answer(number)
                if isinstance(answer, Progress):
                    progress(answer.done, answer.total, answer.part)
                elif isinstance(answer, Opening):
                    self._opening = answer.path
                elif isinstance(answer, Done):
                    done = True
                    return
                elif isinstance(answer, Failed):
                    done = True
                    raise answer.as_error()
                else:
                    yield answer
        finally:
            self._running, self._opening = False, None
            if not done and not self.has_ended:
                self._send_message(number, Cancel())

    def ask(self, message: Any, progress: ProgressCallback = no_progress) -> Any:
        """Send a request and return its last answer, None if it has none.

        Raises what `read_answers` raises.
        """
        last = None
        for answer in self.read_answers(self.send_request(message), progress):
            last = answer
        return last

    def read_hello(self) -> Any:
        """Return what the worker says when it is ready. Raises what keeps it from being ready."""
        answer = self._read_answer(0)
        self._starting = False
        if isinstance(answer, Failed):
            raise answer.as_error()
        return answer

    def close(self) -> None:
        """End the process, at once."""
        self._child.kill()
        self._child.wait()
        self._stderr_reader.join(self._end_s)
        self._child.close()

    def _read_answer(self, number: int) -> Any:
        """Return the next answer to request `number`; what is left of earlier ones is dropped."""
        try:
            while True:
                while (frame := self._frames.take_frame()) is not None:
                    request, answer = self._codec.decode(frame)
                    if request == number:
                        return answer
                if self._wait_for_bytes() and not self._frames.read_more():
                    raise self._make_end_error()
        except ProtocolError as err:
            self._child.kill()
            self._child.wait()
            raise RuntimeFailed(f"the model's process sent an invalid message: {err}") from err

    def _wait_for_bytes(self) -> bool:
        """Wait a moment; return whether there is something to read, the end of the pipe included.

        Raises how the worker ended if it has, and a process that it started (a driver's, say) keeps
        the pipe open: then its end never comes.
        """
        has_ended = self.has_ended  # asked first: what it wrote before its end is in the pipe then
        if select.select([self._out], [], [], _POLL_S)[0]:
            return True
        if has_ended:
            raise self._make_end_error()
        return False

    def _make_end_error(self) -> G4Error:
        """Return the error that says how the worker ended."""
        try:
            status = self._child.wait(self._end_s)
        except subprocess.TimeoutExpired:  # it closed its pipe and goes on: it serves nobody
            self._child.kill()
            status = self._child.wait()
        if self._killed and (self._starting or self._opening):
            return Interrupted("")
        if self._killed:
            return RuntimeFailed("the model did not stop at Ctrl-C: its process was ended")
        self._stderr_reader.join(self._end_s)
        return self._make_exit_error(status)

    def _send_message(self, number: int, message: Any) -> None:
        frame = self._codec.encode(number, message)
        self._writing = True
        try:
            write_all(self._into, frame)
        except OSError:
            pass  # it has gone: reading its answers tells how
        finally:
            self._writing = False
        if self._cancel_due:
            self._cancel_due = False
            self._send_message(self._number, Cancel())

    def handle_interrupt(self) -> None:
        """Act on Ctrl-C.

        Runs as a signal handler of the main thread, between any two of its steps.
        """
        if not (self._running or self._starting):
            return
        now = time.monotonic()
        is_late = self._cancelled_at and now - self._cancelled_at > PATIENCE_S
        if self._starting or self._opening or is_late:
            self._killed = True
            self._child.kill()
        elif not self._cancelled_at:
            self._cancelled_at = now
            if self._writing:  # a Cancel in the middle of the frame would destroy it
                self._cancel_due = True
            else:
                self._send_message(self._number, Cancel())

    def _read_stderr(self) -> None:
        with contextlib.suppress(OSError):
            while self._keep_stderr():
                pass

"""Which tokens grammars allow next, from a process of their own (`mask_child`).

The worker tells that process each token as soon as it is chosen, and needs the mask for the next
one only when the model has evaluated it: both compute at the same time. The process is started for
the first grammar. Until it has indexed the vocabulary, which takes seconds, the prompt is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import subprocess
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from g4cli.core.child import Child, ChildLimits, parse_json_lines, run_child, start_child
from g4cli.core.errors import G4Error, Interrupted, RuntimeFailed, UsageError
from g4cli.core.units import GIB, MIB
from g4cli.core.visible import one_line
from g4cli.runtime.engine.mask_frames import (
    DROP,
    ERROR,
    GRAMMAR,
    HEADER,
    RESET,
    TOKENS,
    TOKENS_AHEAD,
    VOCABULARY,
    mask_bytes,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODULE: Final = "g4cli.runtime.engine.mask_child"
CHECK_S: Final = 20.0
"""Most seconds that compiling a grammar may take. A choice: usual schemas take milliseconds."""

CHECK_BYTES: Final = 512 * MIB
"""Most memory that it may take to compile a grammar: a choice, as above."""

# A choice: memory of the process with all grammars, of which the vocabulary takes 300 MiB.
_MASK_BYTES: Final = 2 * GIB
_FIRST_S: Final = 120.0  # a choice: the vocabulary is indexed before the first mask (seconds)
_MASK_S: Final = 10.0  # a choice: a mask takes milliseconds
_POLL_S: Final = 0.05  # how often a wait looks whether it was cancelled
_MAX_FAULTS: Final = 256  # a choice: grammars of which `find_fault` remembers the answer
_READ_BYTES: Final = 1 << 20


class MaskStream:
    """The masks of one answer. Close it when done; all calls come from the thread that samples."""

    def __init__(
        self,
        process: MaskProcess,
        number: int,
        grammar: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = number
        self.error: G4Error | None = None  # that ended the answer
        self._grammar = grammar
        self._process = process
        self._masks: deque[bytes] = deque()
        # Masks that were asked for: the first is the grammar's own. The last one that was taken
        # stays in `_masks`, and counts, until the next is taken.
        self._n_unread = 1
        self._has_begun = False  # whether a token was added: the grammar is good then
        self._clock = clock
        self._gives_up_at: float | None = None  # while a mask is waited for

    @property
    def is_ready(self) -> bool:
        """Return whether `take_mask` need not wait: the masks asked for, or an error, are there.

        The time limit of a mask begins when this is false for the first time.
        """
        self._process.read_replies(0)
        if self.error or len(self._masks) >= self._n_unread:
            self._gives_up_at = None
            return True
        if self._gives_up_at is None:
            limit = _MASK_S if self._has_begun else _FIRST_S + CHECK_S
            self._gives_up_at = self._clock() + limit
        elif self._clock() > self._gives_up_at:
            self._process.stop("it gave no answer")  # which sets `error`
        return self.error is not None

    def take_mask(self, is_stopped: Callable[[], bool] = bool) -> NDArray[np.bool_]:
        """Return which tokens may come next, shape (n_vocab,).

        Raises UsageError if the grammar cannot be compiled, RuntimeFailed if it exceeds a limit or
        its process ends, Interrupted if `is_stopped` returns true.
        """
        import numpy as np

        if not self._await_replies(is_stopped):
            raise Interrupted("")
        if self.error:
            raise self.error
        while self._n_unread > 1:  # the one taken before, and those in front of certain tokens
            self._masks.popleft()
            self._n_unread -= 1
        bits = np.frombuffer(self._masks[0], np.uint8, mask_bytes(self._process.n_vocab))
        return np.unpackbits(bits, count=self._process.n_vocab, bitorder="little").view(np.bool_)

    def find_certain_bytes(self, is_stopped: Callable[[], bool] = bool) -> bytes:
        """Return the bytes that are known to follow in any case, b"" for none.

        They are looked for where the grammar begins and behind tokens that `add_tokens` was told
        with `ahead`; the answer may be within what was found before. They come with the next mask,
        which is waited for: it is needed in any case, and so what is found does not depend on
        speed. b"" also if there is no mask; `take_mask` says why.
        """
        if not self._await_replies(is_stopped) or self.error:
            return b""
        return self._masks[-1][mask_bytes(self._process.n_vocab) :]

    def _await_replies(self, is_stopped: Callable[[], bool]) -> bool:
        """Wait until `is_ready`; return False if the wait was stopped."""
        while not self.is_ready:
            self._process.read_replies(_POLL_S)
            if is_stopped():
                return False
        return True

    def add_tokens(self, *tokens: int, ahead: bool = False) -> None:
        """Tell that the answer goes on with `tokens`.

        `ahead`: whether to look for bytes that follow them in any case.
        """
        kind = TOKENS_AHEAD if ahead else TOKENS
        self._process.send_frame(self.number, kind, array("I", tokens).tobytes())
        self._n_unread += 1
        self._has_begun = True

    def reset(self) -> None:
        """Let the next token be the first one of the grammar again."""
        if self._has_begun:
            self._process.send_frame(self.number, RESET)
            self._n_unread += 1

    def close(self) -> None:
        """Forget the grammar."""
        self._process.drop_stream(self)

    def add_reply(self, kind: bytes, payload: bytes) -> None:
        """Take a reply of the process to this stream: a mask or an error."""
        if kind != ERROR:
            self._masks.append(payload)
            return
        said = payload.decode("utf-8", "replace") or "unknown"
        if self._has_begun:
            self.fail(_make_failure(one_line(said)[:400]))
        else:
            self.fail(make_grammar_error(self._grammar, said))

    def fail(self, error: G4Error) -> None:
        """End the answer with `error`, unless another one has ended it."""
        self.error = self.error or error


class MaskProcess:
    """The process that computes masks for one vocabulary, and the streams of all answers."""

    def __init__(self, n_vocab: int, pack_vocabulary: Callable[[], bytes]) -> None:
        """`pack_vocabulary` returns what `mask_frames.pack_vocabulary` does; it is called when the
        process is started, in another thread.
        """
        self.n_vocab = n_vocab
        self._pack_vocabulary = pack_vocabulary
        self._child: Child | None = None
        self._lock = threading.Lock()  # of the pipe to the child, and of starting it
        self._buffer = bytearray()
        self._streams: dict[int, MaskStream] = {}
        self._number = 0
        self._faults: dict[bytes, str] = {}  # by the sha256 of a grammar
        self._is_closed = False

    def open_stream(self, grammar: str) -> MaskStream:
        """Return the masks of a grammar, which is compiled in the meantime."""
        self.read_replies(0)  # a process that has ended must not be asked
        self._number += 1
        stream = self._streams[self._number] = MaskStream(self, self._number, grammar)
        threading.Thread(target=self._prepare_stream, args=(stream, grammar), daemon=True).start()
        return stream

    def find_fault(self, grammar: str) -> str:
        """Return why a grammar cannot be used, "" if it can. Takes CHECK_S at most.

        Raises RuntimeFailed if the system starts no process that could tell.
        """
        key = hashlib.sha256(grammar.encode("utf-8", "replace")).digest()
        if (fault := self._faults.get(key)) is None:
            fault, is_lasting = _check_grammar(grammar)
            if is_lasting:
                if len(self._faults) >= _MAX_FAULTS:
                    self._faults.clear()
                self._faults[key] = fault
        return fault

    def start(self) -> None:
        """Start the process and let it index the vocabulary, unless it runs already."""
        with self._lock:
            # A grammar may be prepared in its thread while the model is closed.
            if self._child is None and not self._is_closed:
                child = start_child(MODULE, limits=ChildLimits(data_bytes=_MASK_BYTES),
                                    ignore_interrupt=True, stderr=subprocess.DEVNULL)  # fmt: skip
                try:
                    _write(child, 0, VOCABULARY, self._pack_vocabulary())
                except OSError:
                    child.close()
                    raise
                self._buffer.clear()
                self._child = child

    def send_frame(self, number: int, kind: bytes, payload: bytes = b"") -> None:
        """Send a request about a grammar."""
        with self._lock, contextlib.suppress(OSError):  # its end shows where its replies are read
            if self._child is not None:
                _write(self._child, number, kind, payload)

    def read_replies(self, timeout_s: float) -> None:
        """Wait for replies, `timeout_s` at most, and give them to their streams."""
        child = self._child
        if child is None:
            time.sleep(timeout_s)
            return
        assert child.stdout is not None
        if not select.select([child.stdout], [], [], timeout_s)[0]:
            return
        data = os.read(child.stdout.fileno(), _READ_BYTES)
        if not data:
            self.stop("its process ended")
            return
        buffer = self._buffer
        buffer += data
        while len(buffer) >= HEADER.size:
            length, number, kind = HEADER.unpack_from(buffer)
            end = HEADER.size + length
            if len(buffer) < end:
                return
            if stream := self._streams.get(number):
                stream.add_reply(kind, bytes(buffer[HEADER.size : end]))
            del buffer[:end]

    def drop_stream(self, stream: MaskStream) -> None:
        """Forget a stream."""
        if self._streams.pop(stream.number, None) is not None:
            self.send_frame(stream.number, DROP)

    def stop(self, reason: str) -> None:
        """End the process; the answers that need it fail with `reason`. The next grammar starts it
        anew.
        """
        with self._lock:
            child, self._child = self._child, None
            for stream in self._streams.values():
                stream.fail(_make_failure(reason))
        if child is not None:
            child.close()

    def close(self) -> None:
        """End the process, and start none any more."""
        self._is_closed = True
        self.stop("the model was closed")

    def _prepare_stream(self, stream: MaskStream, grammar: str) -> None:
        """Start the process while the grammar is checked; then let it compile the grammar."""
        starting = threading.Thread(target=self._try_start, args=(stream,), daemon=True)
        starting.start()
        try:
            fault = self.find_fault(grammar)
        except RuntimeFailed as err:
            stream.fail(err)
            return
        starting.join()
        if fault:
            stream.fail(make_grammar_error(grammar, fault))
        elif stream.number in self._streams:
            self.send_frame(stream.number, GRAMMAR, grammar.encode("utf-8", "replace"))
            if stream.number not in self._streams:  # it was dropped before the process knew it
                self.send_frame(stream.number, DROP)

    def _try_start(self, stream: MaskStream) -> None:
        try:
            self.start()
        except Exception as err:
            stream.fail(_make_start_failure(err))


def _make_failure(reason: str) -> RuntimeFailed:
    return RuntimeFailed(f"the grammar cannot be applied any further: {reason}")


def _make_start_failure(err: Exception) -> RuntimeFailed:
    return RuntimeFailed(f"the system starts no process for the grammar: {err}")


def make_grammar_error(grammar: str, fault: str) -> UsageError:
    """Return the error for a grammar that cannot be used because of `fault`.

    `grammar` is llguidance's JSON; text that is none cannot be used either.
    """
    try:
        is_schema = any("json_schema" in part for part in json.loads(grammar)["grammars"])
    except (ValueError, LookupError, TypeError):
        is_schema = False
    name = "JSON schema" if is_schema else "grammar"
    return UsageError(f"the {name} cannot be used: {one_line(fault)[:400]}")


def _write(child: Any, number: int, kind: bytes, payload: bytes) -> None:
    child.stdin.write(HEADER.pack(len(payload), number, kind) + payload)
    child.stdin.flush()


def _check_grammar(grammar: str) -> tuple[str, bool]:
    """Return why a grammar cannot be compiled within the limits, "" if it can.

    And whether that will be so the next time: a busy machine may have been too slow for it. Raises
    RuntimeFailed.
    """
    # `memory_bytes` is looked at now and then; between two looks the kernel's limit holds.
    limits = ChildLimits(data_bytes=2 * CHECK_BYTES)
    try:
        output, status = run_child(
            MODULE, ["check"], text=grammar, timeout_s=CHECK_S, memory_bytes=CHECK_BYTES,
            limits=limits,
        )  # fmt: skip
    except OSError as err:
        raise _make_start_failure(err) from err
    answers = parse_json_lines(output.stdout)
    if status or not answers:
        mib = CHECK_BYTES // MIB
        return f"compiling it takes more than {CHECK_S:.0f} s or {mib} MiB, or crashes", False
    return answers[0]["error"], True

"""Prompts that were read before: their states come back instead of being read again.

A sequence that gets a prompt asks for the longest prefix of it that was saved (`restore_prefix`).
What it reads itself it saves, at these points:

    the system turn         other conversations begin with it
    the last blank line, or the last image or sound, of the last question
                            the same document may be asked about again
    the end of the prompt   the answer may be asked for again, or its thought is left out later
    the end of the answer   the conversation continues

The first two are points inside a prompt: its reading pauses there (`limit_batch`). The others are
saved when the first token of the answer is out, and when the last one is: no token waits for it.
Only the copy out of llama.cpp is made at once; a thread divides it into blocks and writes those
that are new.

Nothing is saved that is read in less time than writing and loading it would take. Within a
conversation, a newer state takes the place of older ones, but the first and the last few stay.

A server keeps the newest states in memory too, which spares it the disk.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.options import ModelOptions, StateOptions
from g4cli.runtime.engine.prompt_tokens import PromptTokens
from g4cli.runtime.engine.state_copy import (
    allocate_state,
    count_state_bytes,
    count_window_bytes,
    put_state,
    take_state,
)
from g4cli.runtime.engine.state_layout import (
    UnknownLayoutError,
    find_tables,
    fit_to_context,
    make_portable,
)
from g4cli.runtime.llama.installation import library_fingerprint
from g4cli.store.states.folder import LOG, About, StateFolder, StateName
from g4cli.store.states.keys import digest_prefix, iter_prefix_digests, make_namespace
from g4cli.store.states.rows import BLOCK_TOKENS

if TYPE_CHECKING:
    from g4cli.runtime.engine.model import Model

_VERSION: Final = 1  # of what is saved: a change makes older states foreign
MIN_TOKENS: Final = 64
"""States of fewer tokens are not saved, and prefixes that save less reading are not restored."""

_MIN_NEW: Final = 32  # a choice: tokens that a state must have more than the one before it
# Copying, writing and restoring a state takes so long, and so many bytes a second: measured with
# E2B's shape (docs/benchmarks.md).
_STATE_S: Final = 0.005
_BYTES_PER_S: Final = 90e6
_MEASURED_TOKENS: Final = 32  # batches with fewer tokens say nothing of the speed of reading
_MAX_JOBS: Final = 4  # a choice: each holds a copy of a state in memory
_POLL_S: Final = 0.05  # how often a wait looks whether it was cancelled
_KEPT_OLDER: Final = 3  # a choice: how many turns back an answer is usually asked for again


@dataclass(slots=True)
class _Block:
    """The digest of a block of tokens that a sequence holds, once it is known."""

    digest: str | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    """A state to write, and those that it makes superfluous."""

    name: StateName
    state: memoryview
    blocks: tuple[_Block, ...]
    superfluous: tuple[StateName, ...]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A state in memory."""

    state: memoryview
    blocks: tuple[_Block, ...]


class StateCache:
    """The saved states of one model and its options, on disk and in memory."""

    def __init__(
        self, options: StateOptions, model: Model, loading: ModelOptions, kv_type: str
    ) -> None:
        """`loading`: how the model was loaded."""
        self.options = options
        self._model, self.model_path = model, model.path
        self.folder = StateFolder(options.folder, options.limit_bytes)
        self._about = About(options.name, str(model.path), kv_type)
        settings = sorted(
            f"{name}={value}"
            for name, value in os.environ.items()
            if name.startswith(("LLAMA_", "GGML_"))
        )
        build = hashlib.sha256(library_fingerprint().encode()).hexdigest()
        self.environment = (build, settings)  # what changes the numbers that llama.cpp computes
        self.namespace = make_namespace(
            [_VERSION, options.model_id, kv_type, *self.environment, model.n_swa,
             loading.n_gpu_layers, loading.device, loading.n_cpu_moe, loading.use_extra_bufts]
        )  # fmt: skip
        self.tokens_per_s = 0.0
        self._kept: OrderedDict[StateName, _Kept] = OrderedDict()
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._is_busy = True  # with cleaning
        self._system = model.tokenize("<|turn>system\n", control=True)
        self._user = model.tokenize("<|turn>user\n", control=True)
        self._turn_end = model.tokenize("<turn|>", control=True)
        self._blank_lines = {
            tokens[0]
            for text in ("\n\n", "\n\n\n", "\n\n\n\n")
            if len(tokens := model.tokenize(text, control=False)) == 1
        }
        threading.Thread(target=self._write_jobs, daemon=True).start()

    def attach(self, context: Context, prompts: PromptTokens, number: int) -> SequenceStates:
        """Return what saves and restores the states of a sequence."""
        return SequenceStates(self, context, prompts, number)

    def record_reading(self, n_tokens: int, seconds: float) -> None:
        """Learn how fast prompts are read here."""
        if n_tokens >= _MEASURED_TOKENS and seconds > 0:
            speed = n_tokens / seconds
            self.tokens_per_s = (self.tokens_per_s + speed) / 2 if self.tokens_per_s else speed

    def is_worthwhile(self, n_tokens: int, n_bytes: int) -> bool:
        """Return whether reading that many tokens takes longer than writing and loading a state."""
        return n_tokens > (_STATE_S + n_bytes / _BYTES_PER_S) * self.tokens_per_s

    def find_states(self, packed: bytes) -> list[StateName]:
        """Return the states that are prefixes of the tokens in `packed`, the longest first."""
        with self._changed:
            kept = set(self._kept)
        lengths = {name.n_tokens for name in kept}
        names = kept & {StateName(*item) for item in iter_prefix_digests(packed, lengths)}
        if self.options.limit_bytes:
            names |= set(self.folder.find_states(self.namespace, packed))
        return sorted(names, key=lambda name: -name.n_tokens)

    def read_state(self, name: StateName) -> tuple[memoryview, tuple[_Block, ...]] | None:
        """Return a state and its blocks, or None if it cannot be had."""
        with self._changed:
            kept = self._kept.get(name)
            if kept is not None:
                self._kept.move_to_end(name)
                return kept.state, kept.blocks
        try:
            saved = self.folder.read_state(self.namespace, name, allocate_state)
        except MemoryError as err:
            LOG.debug("a state of %d tokens is not restored: %s", name.n_tokens, err)
            return None
        if saved is None:
            return None
        header, state = saved
        return state, tuple(_Block(digest) for digest in header.block_digests)

    def drop_state(self, name: StateName) -> None:
        """Remove a state that llama.cpp does not take."""
        LOG.debug("llama.cpp does not take the state %s", name.file)
        with self._changed:
            self._kept.pop(name, None)
        self.folder.remove_state(self.namespace, name)

    @property
    def has_room(self) -> bool:
        """Return whether something else may be submitted."""
        return len(self._jobs) < _MAX_JOBS

    def submit(self, job: Callable[[], None]) -> None:
        """Carry out `job`, which writes something, in the background."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def finish(self, timeout_s: float, is_stopped: Callable[[], bool] = lambda: False) -> bool:
        """Wait until all is written, or `is_stopped()`; return whether it is."""
        ends_at = time.monotonic() + timeout_s
        with self._changed:
            while self._jobs or self._is_busy:
                if is_stopped() or time.monotonic() >= ends_at:
                    return False
                self._changed.wait(min(timeout_s, _POLL_S))
            return True

    def find_borders(self, prompt: Sequence[int]) -> list[int]:
        """Return where other prompts may branch off: how many tokens of `prompt` they share."""
        borders = []
        start = int(prompt[0] == self._model.bos)
        if self._turn_end and list(prompt[start : start + len(self._system)]) == self._system:
            with suppress(ValueError):
                borders.append(prompt.index(self._turn_end[0]) + 2)  # a line feed follows it
        question = _find_last(prompt, self._user)
        for position in range(len(prompt) - 1, question, -1):
            token = prompt[position]
            # The token that ends an image or sound follows its last position.
            if token in self._blank_lines or (
                token < 0 <= prompt[min(position + 1, len(prompt) - 1)]
            ):
                borders.append(position + (1 if token >= 0 else 2))
                break
        return [border for border in borders if border < len(prompt)]

    def _write_jobs(self) -> None:
        """The thread that writes, at a low priority: answers are computed meanwhile."""
        if sys.platform == "linux":
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        if self.options.limit_bytes:
            self.folder.clean()
        while True:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._jobs))
                self._is_busy = True
                job = self._jobs.popleft()
            try:
                job()
            except (UnknownLayoutError, MemoryError) as err:
                LOG.debug("a state is not saved: %s", err)

    def write_state(self, job: _Job) -> None:
        """Keep a state in memory and write it to the disk, as far as there is room."""
        state = make_portable(job.state, job.name.n_tokens)
        tables = find_tables(state, job.name.n_tokens)
        for name in job.superfluous:
            with self._changed:
                self._kept.pop(name, None)
        self._keep_in_memory(job.name, memoryview(state), job.blocks)
        if not self.options.limit_bytes:
            return
        known = [block.digest for block in job.blocks]
        digests = self.folder.write_state(
            self.namespace, self._about, job.name, state, tables, known
        )
        if digests is None:
            return
        for block, digest in zip(job.blocks, digests, strict=False):
            block.digest = digest
        for name in job.superfluous:
            self.folder.remove_state(self.namespace, name)

    def _keep_in_memory(
        self, name: StateName, state: memoryview, blocks: tuple[_Block, ...]
    ) -> None:
        if len(state) > self.options.ram_bytes:
            return
        with self._changed:
            self._kept[name] = _Kept(state, blocks)
            self._kept.move_to_end(name)
            while sum(len(kept.state) for kept in self._kept.values()) > self.options.ram_bytes:
                self._kept.popitem(last=False)


@dataclass(slots=True)
class SequenceStates:
    """What a sequence has saved of its tokens, and restores instead of reading."""

    cache: StateCache
    context: Context
    prompts: PromptTokens
    number: int
    _points: list[int] = field(default_factory=list)  # lengths of prefixes that are saved
    _blocks: list[_Block] = field(default_factory=list)
    _saved: list[StateName] = field(default_factory=list)  # at the ends of turns
    _borders: list[int] = field(default_factory=list)

    def restore_prefix(self, prompt: Sequence[int], n_have: int) -> int | None:
        """Restore the longest saved prefix of `prompt`; return how many tokens are usable.

        The last token of `prompt` is never among them. None: nothing was done, since no state is
        longer than the `n_have` tokens that the sequence has already; 0: llama.cpp took none, and
        the sequence is empty.
        """
        done = None
        packed = self.prompts.pack_tokens(prompt)
        if packed is None:
            return None
        for name in self.cache.find_states(packed):
            usable = min(name.n_tokens, len(prompt) - 1)
            if usable < n_have + MIN_TOKENS or done:
                break
            if name.n_tokens <= self.context.n_ctx and (found := self.cache.read_state(name)):
                try:
                    done = usable if self._put_into_context(found[0], name, usable) else 0
                except MemoryError:  # for a copy of the state: nothing was done yet
                    LOG.debug("no memory to restore a state of %d tokens", name.n_tokens)
                if done:
                    self._points, self._blocks, self._saved = [usable], [*found[1]], []
        return done

    def note_truncated(self, n_past: int) -> None:
        """Forget what is known of the tokens from position `n_past` on."""
        self._points = [n for n in self._points if n <= n_past]
        self._saved = [name for name in self._saved if name.n_tokens <= n_past]
        del self._blocks[n_past // BLOCK_TOKENS :]

    def plan_reading(self, prompt: Sequence[int], n_past: int) -> None:
        """Choose where the reading of `prompt` pauses; `n_past` tokens of it are there."""
        self._borders, last = [], n_past
        for border in sorted(self.cache.find_borders(prompt)):
            border = self.prompts.round_down_to_run(prompt, border)
            if border - last >= MIN_TOKENS:
                self._borders.append(border)
                last = border

    def limit_batch(self, position: int, most: int) -> int:
        """Return how many tokens to evaluate at `position`: `most`, or up to the next pause."""
        return min([most, *(border - position for border in self._borders if border > position)])

    def save_border(self, tokens: Sequence[int]) -> None:
        """Save the state if the reading has come to a pause. `tokens` are those evaluated."""
        if len(tokens) in self._borders:
            self._save(tokens)

    def save_turn(self, tokens: Sequence[int]) -> bool:
        """Save the state at the end of a prompt or answer; return whether it was taken."""
        name = self._save(tokens, self._saved[1 : -_KEPT_OLDER + 1])
        if name is None:
            return False
        del self._saved[1 : -_KEPT_OLDER + 1]
        self._saved.append(name)
        return True

    def _save(
        self, tokens: Sequence[int], superfluous: Sequence[StateName] = ()
    ) -> StateName | None:
        n_tokens, cache = len(tokens), self.cache
        n_new = n_tokens - max(self._points, default=0)
        if n_tokens < MIN_TOKENS or n_new < _MIN_NEW or not cache.has_room:
            return None
        n_window = count_window_bytes(self.context, self.number)
        n_rows = count_state_bytes(self.context, self.number) - n_window
        if not cache.is_worthwhile(n_new, n_window + n_rows * n_new // n_tokens):
            return None
        packed = self.prompts.pack_tokens(tokens)
        if packed is None:
            return None
        try:
            state = take_state(self.context, self.number)
        except MemoryError as err:
            LOG.debug("a state of %d tokens is not saved: %s", n_tokens, err)
            return None
        if state is None:
            return None
        name = StateName(n_tokens, digest_prefix(packed))
        n_blocks = n_tokens // BLOCK_TOKENS
        self._blocks += [_Block() for _ in range(n_blocks - len(self._blocks))]
        self._points.append(n_tokens)
        job = _Job(name, state, tuple(self._blocks[:n_blocks]), tuple(superfluous))
        cache.submit(lambda: cache.write_state(job))
        return name

    def _put_into_context(self, state: memoryview, name: StateName, usable: int) -> bool:
        """Put a state into the context; return whether evaluation may go on after `usable`."""
        try:
            fitted = fit_to_context(state, name.n_tokens, self.context.n_parallel)
        except UnknownLayoutError:
            fitted = None
        if fitted is not None and put_state(self.context, fitted, self.number):
            last = self.context.find_last_position(self.number)
            if last == name.n_tokens - 1 and self.context.can_branch(usable, self.number):
                return True
        self.context.truncate(0, self.number)
        self.cache.drop_state(name)
        return False


def _find_last(tokens: Sequence[int], wanted: Sequence[int]) -> int:
    """Return where `wanted` begins for the last time in `tokens`, or 0."""
    for start in range(len(tokens) - len(wanted), 0, -1):
        if tokens[start] == wanted[0] and list(tokens[start : start + len(wanted)]) == [*wanted]:
            return start
    return 0

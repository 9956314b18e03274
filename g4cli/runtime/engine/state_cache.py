"""The saved states of a model, on disk and in memory; the disk's are written in the background.

Only the copy out of llama.cpp is made by whoever saves a state (`sequence_states`): a thread
divides it into blocks and writes those that are new. A server keeps the newest states in memory
too, which spares it the disk.
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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from g4cli.runtime.engine.options import ModelOptions, StateOptions
from g4cli.runtime.engine.state_copy import allocate_state
from g4cli.runtime.engine.state_layout import UnknownLayoutError, find_tables, make_portable
from g4cli.runtime.llama.installation import library_fingerprint
from g4cli.store.states.folder import LOG, About, StateFolder, StateName
from g4cli.store.states.keys import iter_prefix_digests, make_namespace

if TYPE_CHECKING:
    from g4cli.runtime.engine.model import Model

_VERSION: Final = 1  # of what is saved: a change makes older states foreign
# Copying, writing and restoring a state takes so long, and so many bytes a second: measured with
# E2B's shape (docs/benchmarks.md).
_STATE_S: Final = 0.005
_BYTES_PER_S: Final = 90e6
_MEASURED_TOKENS: Final = 32  # batches with fewer tokens say nothing of the speed of reading
_MAX_JOBS: Final = 4  # a choice: each holds a copy of a state in memory
_POLL_S: Final = 0.05  # how often a wait looks whether it was cancelled


@dataclass(slots=True)
class Block:
    """The digest of the KV rows of 256 tokens of a sequence; None until they are written."""

    digest: str | None = None


class SavedState(NamedTuple):
    """A state as llama.cpp gives it, and its blocks."""

    state: memoryview
    blocks: tuple[Block, ...]


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
        self._kept: OrderedDict[StateName, SavedState] = OrderedDict()
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._is_busy = True  # whether the thread works: first, it cleans the folder
        self._system = model.tokenize("<|turn>system\n", control=True)
        self._user = model.tokenize("<|turn>user\n", control=True)
        self._turn_end = model.tokenize("<turn|>", control=True)
        self._blank_lines = {
            tokens[0]
            for text in ("\n\n", "\n\n\n", "\n\n\n\n")
            if len(tokens := model.tokenize(text, control=False)) == 1
        }
        threading.Thread(target=self._write_jobs, daemon=True).start()

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

    def read_state(self, name: StateName) -> SavedState | None:
        """Return a state, or None if it cannot be had."""
        with self._changed:
            kept = self._kept.get(name)
            if kept is not None:
                self._kept.move_to_end(name)
                return kept
        try:
            saved = self.folder.read_state(self.namespace, name, allocate_state)
        except MemoryError as err:
            LOG.debug("a state of %d tokens is not restored: %s", name.n_tokens, err)
            return None
        if saved is None:
            return None
        header, state = saved
        return SavedState(state, tuple(map(Block, header.block_digests)))

    def drop_state(self, name: StateName) -> None:
        """Remove a state that llama.cpp does not take."""
        LOG.debug("llama.cpp does not take the state %s", name.file)
        with self._changed:
            self._kept.pop(name, None)
        self.folder.remove_state(self.namespace, name)

    @property
    def has_room(self) -> bool:
        """Return whether another job may be submitted: few wait to be written."""
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
                borders.append(prompt.index(self._turn_end[0]) + 2)  # with the line feed after it
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

    def write_state(
        self, name: StateName, saved: SavedState, superfluous: Sequence[StateName]
    ) -> None:
        """Keep a state in memory and write it to the disk, as far as there is room.

        It takes the place of the `superfluous` ones.
        """
        state = make_portable(saved.state, name.n_tokens)
        tables = find_tables(state, name.n_tokens)
        with self._changed:
            for older in superfluous:
                self._kept.pop(older, None)
        self._keep_in_memory(name, SavedState(memoryview(state), saved.blocks))
        if not self.options.limit_bytes:
            return
        known = [block.digest for block in saved.blocks]
        digests = self.folder.write_state(self.namespace, self._about, name, state, tables, known)
        if digests is None:
            return
        for block, digest in zip(saved.blocks, digests, strict=False):
            block.digest = digest
        for older in superfluous:
            self.folder.remove_state(self.namespace, older)

    def _keep_in_memory(self, name: StateName, saved: SavedState) -> None:
        if len(saved.state) > self.options.ram_bytes:
            return
        with self._changed:
            self._kept[name] = saved
            self._kept.move_to_end(name)
            while sum(len(kept.state) for kept in self._kept.values()) > self.options.ram_bytes:
                self._kept.popitem(last=False)


def _find_last(tokens: Sequence[int], wanted: Sequence[int]) -> int:
    """Return where `wanted` begins for the last time in `tokens`, or 0."""
    for start in range(len(tokens) - len(wanted), 0, -1):
        if tokens[start] == wanted[0] and list(tokens[start : start + len(wanted)]) == [*wanted]:
            return start
    return 0

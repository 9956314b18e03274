"""A llama.cpp context: the KV cache of conversations, and the logits of what was evaluated last.

How Gemma 4's KV cache behaves: full-attention layers keep a cell for every position, sliding-window
layers (SWA) only for the last `n_swa` and a ubatch. Both are truncated together, but positions that
have left the window do not come back. After a truncation to `n_past` tokens evaluation may go on
only if the window before `n_past` is still complete (`can_branch`); otherwise llama.cpp would
compute wrong answers without an error. A checkpoint of the window (`save_window`) makes such a
return possible: it holds the sliding layers' cells alone, a small part of the whole state.

Several conversations are several sequences. Each has cells of its own (llama.cpp's `kv_unified` is
off), so that none takes memory from another, a sequence reads its own cells alone, and what it
computes does not depend on where the others put theirs.

Logits are computed for the last row after `decode_tokens`, for each of a few rows after
`decode_with_logits`, and for those that a batch marks after `decode_batch`. `row`, an index in what
was evaluated last, is the one that `get_logits` and the sampler read.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from g4cli.core.errors import ContextFull, RuntimeFailed, UsageError
from g4cli.core.quoting import shell_word
from g4cli.core.units import MIB
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions
from g4cli.runtime.llama.hidden_states import skip_unused_rows
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.runtime.llama.library import LOG, engine_failure, load_llama, make_context_error

KV_TYPES: Final = MappingProxyType({"f16": 1, "q8_0": 8, "q4_0": 2})  # ggml_type ids
_NO_QUOTA: Final = 1 << 16  # CPUs: more than any machine has
_ONE_THREAD_BYTES: Final = 64 * MIB  # a choice, far from `tiny` and from E2B: see choose_n_threads
FLASH_ATTENTION_AUTO: Final = -1  # LLAMA_FLASH_ATTN_TYPE_AUTO
MTP: Final = 1  # LLAMA_CONTEXT_TYPE_MTP (multi-token prediction): the context of a draft model
SWA_ONLY: Final = 1  # LLAMA_STATE_SEQ_FLAGS_SWA_ONLY, include/llama.h
# llama_decode's results, include/llama.h.
_NO_SLOT, _ABORTED = 1, 2


class Context:
    """The context of `n_parallel` sequences, each of `n_ctx` tokens. `seq` is the number of one."""

    def __init__(
        self,
        model: Model,
        options: ContextOptions,
        interrupt: Interrupt,
        *,
        eval_callback: Any = None,
    ) -> None:
        """Allocate KV cache and buffers. `eval_callback` (llama.cpp's cb_eval) sees operations.

        It has to live as long as the context. Raises NoMemory, UsageError (an unknown KV type) or
        RuntimeFailed (llama.cpp refuses the options).
        """
        if options.kv_type not in KV_TYPES:
            raise UsageError(
                f"unknown KV type {options.kv_type!r}", hint=f"--kv-type {'|'.join(KV_TYPES)}"
            )
        self._c, self.model, self.interrupt = load_llama(), model, interrupt
        params = self._c.llama_context_default_params()
        n_parallel = options.n_parallel
        params.n_ctx, params.n_seq_max = options.n_ctx * n_parallel, n_parallel
        params.kv_unified = False
        params.n_batch = min(options.n_batch, max(params.n_ctx, 1))
        params.n_ubatch = min(options.n_ubatch, params.n_batch)
        # Sequences that answer together need a row each; one alone needs `n_outputs`, with drafts.
        params.n_outputs_max = max(options.n_outputs, n_parallel)
        params.n_outputs_max_per_seq = options.n_outputs
        params.n_threads = params.n_threads_batch = options.n_threads or choose_n_threads(model)
        params.type_k = params.type_v = KV_TYPES[options.kv_type]
        wanted = options.flash_attention
        params.flash_attn_type = FLASH_ATTENTION_AUTO if wanted is None else int(wanted)
        if not options.use_gpu:
            params.offload_kqv = params.op_offload = False
        # Otherwise sliding-window layers get a cell for every position: 3 to 18 times the memory.
        params.swa_full = False
        params.no_perf = True
        params.abort_callback = interrupt.callback(self._c.ggml_abort_callback)
        params.abort_callback_data = interrupt.data
        if eval_callback is not None:
            params.cb_eval = eval_callback
        LOG.clear()
        self._handle = self._c.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise make_context_error(
                f"llama.cpp cannot make a context of {options.n_ctx:,} tokens",
                hint=f"g4 fit {shell_word(model.path)} shows what fits; a smaller --ctx needs less",
            )
        if eval_callback is None:  # whoever looks at operations sees those of all tokens
            skip_unused_rows(self._handle)
        self.kv_bytes, self.compute_bytes = LOG.sum_buffers("KV"), LOG.sum_buffers("compute")
        self.gpu_bytes = sum(LOG.sum_buffers(kind, on_gpu=True) for kind in ("KV", "compute"))
        self._memory = self._c.llama_get_memory(self._handle)
        self.n_parallel = n_parallel
        self.n_ctx: int = self._c.llama_n_ctx(self._handle) // n_parallel
        self.n_batch: int = params.n_batch
        self.n_ubatch: int = params.n_ubatch
        self.kv_type = options.kv_type
        self.n_threads: int = params.n_threads
        self.row = -1  # llama.cpp: the last one
        self._many = (self._c.llama_token * self.n_batch)()
        # A batch of a few tokens. It points to arrays that have to live as long. Without positions,
        # llama.cpp goes on behind the last token of the sequence.
        count = min(options.n_outputs, self.n_batch)
        self._seq = (self._c.llama_seq_id * 1)()
        ones = (ctypes.c_int32 * count)(*[1] * count)
        pointers = (ctypes.POINTER(self._c.llama_seq_id) * count)(*[self._seq] * count)
        self._few_tokens = (self._c.llama_token * count)()
        self._few = self._c.llama_batch(
            token=self._few_tokens,
            n_seq_id=ones,
            seq_id=pointers,
            logits=(ctypes.c_int8 * count)(*[1] * count),
        )

    @property
    def handle(self) -> Any:
        """Return llama.cpp's pointer. Raises RuntimeFailed once closed."""
        if not self._handle:
            raise RuntimeFailed("the context is closed")
        return self._handle

    def require_room(self, prompt: Sequence[int]) -> None:
        """Raise ContextFull if a sequence has no room for a prompt and a token behind it."""
        if len(prompt) >= self.n_ctx:
            raise ContextFull(
                f"the prompt has {len(prompt):,} tokens, the context holds {self.n_ctx:,}",
                # A choice: room for an answer of 1,024 tokens.
                hint=f"--ctx {len(prompt) + 1024} or a shorter prompt",
            )

    def decode_tokens(self, tokens: Sequence[int]) -> bool:
        """Evaluate up to `n_batch` tokens of sequence 0, with logits for the last one.

        Return False if interrupted.
        """
        self._many[: len(tokens)] = tokens
        batch = self._c.llama_batch_get_one(self._many, len(tokens))
        return self._decode(batch, row=len(tokens) - 1)

    def decode_with_logits(self, tokens: Sequence[int], seq: int = 0) -> bool:
        """Evaluate up to `n_outputs` tokens with logits for each; `row` is the first one.

        Return False if interrupted: then none of them is in the KV cache. Raises ContextFull or
        RuntimeFailed, as all that evaluate.
        """
        self._few_tokens[: len(tokens)] = tokens
        self._few.n_tokens, self._seq[0] = len(tokens), seq
        return self._decode(self._few, row=0)

    def decode_batch(self, batch: Any) -> bool:
        """Evaluate a llama_batch, which marks the tokens that get logits.

        Return False if interrupted.
        """
        return self._decode(batch, row=-1)

    def _decode(self, batch: Any, *, row: int) -> bool:
        self.row = row
        result = self._c.llama_decode(self.handle, batch)
        if result == 0:
            return True
        if result == _ABORTED:
            return False
        if result == _NO_SLOT:
            raise ContextFull(
                f"the context of {self.n_ctx:,} tokens is full", hint="--ctx with a larger number"
            )
        raise engine_failure(
            f"llama.cpp failed to evaluate (code {result})",
            hint=f"g4 doctor {shell_word(self.model.path)}",
        )

    def synchronize(self) -> None:
        """Wait until all that was asked of the devices is computed."""
        self._c.llama_synchronize(self._handle)

    def find_first_position(self, seq: int = 0) -> int:
        """Return the first position that the sliding-window layers still hold, or -1."""
        return int(self._c.llama_memory_seq_pos_min(self._memory, seq))

    def find_last_position(self, seq: int = 0) -> int:
        """Return the last position evaluated, or -1."""
        return int(self._c.llama_memory_seq_pos_max(self._memory, seq))

    def can_branch(self, n_past: int, seq: int = 0) -> bool:
        """Return whether evaluation may go on after the first `n_past` tokens.

        A sliding layer at position p reads p - n_swa + 1 .. p (is_masked_swa, src/llama-hparams.h,
        llama.cpp@0c1e57098): those of them before `n_past` must still be in the cache.
        """
        if n_past == 0:
            return True
        first = self.find_first_position(seq)
        needed = max(0, n_past - self.model.n_swa + 1) if self.model.n_swa else 0
        return 0 <= first <= needed and self.find_last_position(seq) >= n_past - 1

    def truncate(self, n_past: int, seq: int = 0) -> None:
        """Remove all tokens from position `n_past` on.

        Raises RuntimeFailed if llama.cpp refuses.
        """
        if n_past == 0 and self.n_parallel == 1:  # this cannot be refused
            self._c.llama_memory_clear(self._memory, False)
        elif not self._c.llama_memory_seq_rm(self._memory, seq, n_past, -1):
            raise RuntimeFailed(f"llama.cpp cannot truncate the context to {n_past} tokens")

    def save_window(self, limit_bytes: int, seq: int = 0) -> bytes | None:
        """Return a checkpoint of the sliding window, or None if it is larger than `limit_bytes`."""
        size = self._c.llama_state_seq_get_size_ext(self.handle, seq, SWA_ONLY)
        if not 0 < size <= limit_bytes:
            return None
        buffer = ctypes.create_string_buffer(size)
        target = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_uint8))
        written = self._c.llama_state_seq_get_data_ext(self.handle, target, size, seq, SWA_ONLY)
        return buffer.raw[:written] if written else None

    def restore_window(self, state: bytes, seq: int = 0) -> bool:
        """Restore a checkpoint of the sliding window; return whether llama.cpp accepted it."""
        source = ctypes.cast(ctypes.c_char_p(state), ctypes.POINTER(ctypes.c_uint8))
        return bool(
            self._c.llama_state_seq_set_data_ext(self.handle, source, len(state), seq, SWA_ONLY)
        )

    def advance_row(self) -> None:
        """Read the logits of the token after that from now on."""
        self.row += 1

    def get_logits(self) -> Any:
        """Return a pointer to the `n_vocab` float32 logits of `row`, valid until it decodes."""
        return self._c.llama_get_logits_ith(self.handle, self.row)

    def forbid_token(self, token: int) -> None:
        """Keep `token` from being sampled at `row`; the next evaluation allows it again."""
        self.get_logits()[token] = float("-inf")

    def copy_logits(self) -> bytes:
        """Return a copy of those logits as bytes, to compare bit by bit."""
        return ctypes.string_at(self.get_logits(), 4 * self.model.n_vocab)

    def close(self) -> None:
        """Free the context."""
        if self._handle:
            self._c.llama_free(self._handle)
            self._handle = None


def choose_n_threads(model: Model) -> int:
    """Return the number of physical cores, or 1 for models too small for several threads.

    Threads wait for each other after every matrix. Where a matrix takes less than some hundred
    microseconds, waiting costs more than sharing saves, on a busy machine a hundred times more.
    """
    return 1 if model.size_bytes < _ONE_THREAD_BYTES else count_physical_cores()


def count_physical_cores() -> int:
    """Return how many physical cores this process may use; more threads than that decode slower."""
    if sys.platform == "darwin":
        answer = subprocess.run(
            ["sysctl", "-n", "hw.perflevel0.physicalcpu"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        if answer.isdigit():
            return int(answer)
    allowed = (
        os.sched_getaffinity(0)
        if hasattr(os, "sched_getaffinity")
        else set(range(os.cpu_count() or 1))
    )
    cores = set()
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text().strip())
        except OSError:
            cores.add(str(cpu))
    return max(1, min(len(cores), read_cpu_quota(Path("/sys/fs/cgroup"))))


def read_cpu_quota(cgroup: Path) -> int:
    """Return the CPU quota of the container (cgroup v2 or v1) in CPUs, or a large number.

    Threads beyond the quota are paused in the middle of a matrix, and the others wait for them. A
    broken number is rounded: a choice between that and a CPU that is idle for some of the time.
    """
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return _NO_QUOTA
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:  # "max", or -1
        return _NO_QUOTA
    return max(1, round(int(quota) / int(period)))

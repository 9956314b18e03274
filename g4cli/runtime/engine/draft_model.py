"""Gemma 4's draft model (`-assistant`): four layers that read the KV cache of the model itself.

Its input is a token and the model's hidden state before it; its output are the logits of the next
token and the next hidden state, with which it is run again. It writes no keys and values, so all
tokens of a draft are computed at one position (common/speculative.cpp
common_speculative_impl_draft_mtp, src/models/gemma4-assistant.cpp, llama.cpp@0c1e57098).

With a build of llama.cpp that hands out no hidden states (`runtime.llama.hidden_states`) a draft
model cannot be used.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import UsageError
from g4cli.core.gguf import read_header
from g4cli.estimate import N_DRAFT
from g4cli.runtime.engine.context import FLASH_ATTENTION_AUTO, KV_TYPES, MTP, Context
from g4cli.runtime.engine.drafting import find_mismatch
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ModelOptions
from g4cli.runtime.llama.hidden_states import SET_STATES, STATE, find_function
from g4cli.runtime.llama.library import LOG, load_llama, make_context_error

_N_BATCH: Final = 1  # one token at a time: each depends on the one before


def explain_unsupported(find: Callable[[str], Any] = find_function) -> str | None:
    """Return why this build of llama.cpp cannot use a draft model, or None.

    `find` returns an exported function by its name, or None. Raises EngineMissing.
    """
    missing = [name for name in (SET_STATES, STATE) if find(name) is None]
    if missing:
        return f"this build of llama.cpp cannot use draft models: it does not export {missing[0]}"
    return None


class DraftModel:
    """A loaded draft model that reads the KV cache of `target`, as a `speculation.Drafter`.

    Close it before the target.
    """

    cost: Final = 0.25  # tests/bench/bench_draft.py

    def __init__(self, path: Path, target: Context, model_options: ModelOptions) -> None:
        """Load `path`. The KV cache of `target`, which is shared from now on, is empty afterwards.

        Raises UsageError (not for this model, or not with this build), RuntimeFailed or NoMemory.
        """
        if why := explain_unsupported():
            raise UsageError(why, hint="--draft lookup works with every build")
        if why := find_mismatch(read_header(path), read_header(target.model.path)):
            raise UsageError(why, hint="g4 pull MODEL --draft")
        self._c, self._target = load_llama(), target
        self._handle: Any = None
        self.model = Model(path, model_options)
        if self.model.n_vocab != target.model.n_vocab:
            self.close()
            raise UsageError(f"{path.name} has another vocabulary than {target.model.path.name}")
        self._state: Any = find_function(STATE)
        set_states: Any = find_function(SET_STATES)
        self._make_context()
        # The model hands out the states of all its rows: otherwise it would skip those without
        # logits, and compute with other kernels.
        set_states(target.handle, True, False)
        set_states(self._handle, True, True)
        self._token = (self._c.llama_token * 1)()
        self._position = (self._c.llama_pos * 1)()
        self._batch = self._c.llama_batch(
            n_tokens=1, token=self._token, pos=self._position, logits=(ctypes.c_int8 * 1)(1)
        )

    def _make_context(self) -> None:
        c, target = self._c, self._target
        params = c.llama_context_default_params()
        params.ctx_type, params.ctx_other = MTP, target.handle
        params.n_ctx, params.n_seq_max = target.n_ctx, 1
        params.n_batch = params.n_ubatch = _N_BATCH
        params.n_outputs_max = params.n_outputs_max_per_seq = 1
        params.n_threads = params.n_threads_batch = target.n_threads
        params.flash_attn_type = FLASH_ATTENTION_AUTO
        params.type_k = params.type_v = KV_TYPES[target.kv_type]
        params.swa_full, params.no_perf = False, True
        params.abort_callback = target.interrupt.callback(c.ggml_abort_callback)
        params.abort_callback_data = target.interrupt.data
        LOG.clear()
        self._handle = c.llama_init_from_model(self.model.handle, params)
        if not self._handle:
            self.close()
            raise make_context_error(
                f"llama.cpp cannot make a context for {self.model.path.name}",
                hint="--draft lookup needs no memory",
            )

    def set_tokens(self, tokens: Sequence[int]) -> None:
        """Ignored: what it needs of them is in the KV cache of the target."""

    def add_token(self, token: int) -> None:
        """Ignored, as above."""

    def draft_round(self, token: int, position: int, count: int = N_DRAFT) -> list[int]:
        """Return `count` tokens that may follow `token`, which will stand at `position`.

        The target must have evaluated everything before `position`, and its `row` must be the one
        that `token` was sampled from. Fewer tokens if interrupted.
        """
        state = self._state(self._target.handle, self._target.row)
        draft: list[int] = []
        while state and len(draft) < count:
            self._token[0], self._position[0] = token, position
            self._batch.embd = state
            if self._c.llama_decode(self._handle, self._batch) != 0:
                break
            token = self._find_best_token()
            draft.append(token)
            state = self._state(self._handle, 0)
        return draft

    def _find_best_token(self) -> int:
        import numpy as np  # 70 ms that a chat without a draft model need not wait for

        logits = self._c.llama_get_logits_ith(self._handle, 0)
        return int(np.ctypeslib.as_array(logits, (self.model.n_vocab,)).argmax())

    def close(self) -> None:
        """Free the context and the model."""
        if self._handle:
            self._c.llama_free(self._handle)
            self._handle = None
        self.model.close()

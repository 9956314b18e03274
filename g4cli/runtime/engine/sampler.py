"""Sampling of the next token by a chain of llama.cpp's samplers."""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING, Any

from g4cli.core.errors import RuntimeFailed
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import Sampling
from g4cli.runtime.llama.library import load_llama

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from g4cli.runtime.engine.candidates import CandidateArray, CandidateFinder


class Sampler:
    """A sampler chain for one answer. Close it when done."""

    def __init__(self, model: Model, sampling: Sampling) -> None:
        """Build the chain. Tokens that the model's file suppresses are never sampled."""
        self._c = c = load_llama()
        params = c.llama_sampler_chain_default_params()
        params.no_perf = True
        self.handle: Any = c.llama_sampler_chain_init(params)  # llama.cpp's pointer to the chain
        biases = _find_biases(model, sampling)
        if biases:
            array = (c.llama_logit_bias * len(biases))(*biases)
            self._add_sampler(c.llama_sampler_init_logit_bias(model.n_vocab, len(biases), array))
        self._candidates: CandidateFinder | None = None
        self._n_vocab = model.n_vocab
        self._biased = [token for token, _ in biases]  # which the chain may raise or forbid
        # The chain chooses among so many of the largest logits (0: any number): those that it
        # keeps, and one for each bias, which may take one of them away.
        self._n_best = len(biases) + (1 if sampling.temp <= 0 else sampling.top_k)
        penalties = (
            sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty
        )  # fmt: skip
        if penalties != (1.0, 0.0, 0.0) and sampling.repeat_last_n:
            last_n = model.n_ctx_train  # llama.cpp reserves memory for so many
            if sampling.repeat_last_n > 0:
                last_n = min(sampling.repeat_last_n, last_n)
            self._add_sampler(c.llama_sampler_init_penalties(model.n_vocab, last_n, *penalties))
            self._n_best = 0
        if sampling.temp > 0 and sampling.top_k <= 0:
            self._n_best = 0
        if sampling.temp <= 0:
            self._add_sampler(c.llama_sampler_init_greedy())
            return
        # The order of llama.cpp's own tools (common/common.h, common_params_sampling.samplers).
        if sampling.top_k > 0:
            self._add_sampler(c.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:  # the last argument of this and the next: the fewest tokens to keep
            self._add_sampler(c.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0:
            self._add_sampler(c.llama_sampler_init_min_p(sampling.min_p, 1))
        self._add_sampler(c.llama_sampler_init_temp(sampling.temp))
        self._add_sampler(c.llama_sampler_init_dist(sampling.seed & 0xFFFFFFFF))

    def _add_sampler(self, sampler: Any) -> None:
        if not sampler:
            raise RuntimeFailed("llama.cpp refused a sampler")
        self._c.llama_sampler_chain_add(self.handle, sampler)

    def sample_token(self, context: Context) -> int:
        """Return a token sampled at the context's `row`, and record it for penalties."""
        candidates = self._candidates
        if candidates is not None and candidates.find(context.get_logits()):
            return self._sample_from(candidates.array)
        return int(self._c.llama_sampler_sample(self.handle, context.handle, context.row))

    def sample_among(
        self, candidates: CandidateArray, ids: NDArray[np.int64], logits: NDArray[np.float32]
    ) -> int:
        """Return a token sampled among `ids` alone, and record it; -1 if all are forbidden.

        `ids`: ascending, one to candidates.MAX_CANDIDATES of them. `logits`: of all tokens, shape
        (n_vocab,).
        """
        candidates.fill(ids, logits)
        return self._sample_from(candidates.array)

    def _sample_from(self, array: Any) -> int:
        self._c.llama_sampler_apply(self.handle, ctypes.byref(array))
        selected = array.data[array.selected]
        if selected.logit == -math.inf:
            return -1
        token = int(selected.id)
        self._c.llama_sampler_accept(self.handle, token)
        return token

    def find_candidates_first(self) -> None:
        """Show the chain from now on only what it may choose, where that is known: see candidates.

        Loads numpy, which takes 70 ms: not worth it for a single answer.
        """
        from g4cli.runtime.engine.candidates import CandidateFinder

        if CandidateFinder.can_find(self._n_vocab, self._n_best):
            self._candidates = CandidateFinder(self._n_vocab, self._n_best, self._biased)

    def read_probability(self, context: Context, token: int) -> float | None:
        """Return how probable `token`, just sampled, was to the model."""
        from g4cli.runtime.engine.probabilities import read_probability  # loads numpy: 70 ms

        return read_probability(context, context.model, token)

    def take_certain_tokens(self) -> list[int]:
        """Return no tokens, as `GrammarSampler` may: without a grammar, nothing is certain."""
        return []

    def accept_token(self, token: int) -> None:
        """Record a token of the answer that was not sampled."""
        self._c.llama_sampler_accept(self.handle, token)

    def close(self) -> None:
        """Free the chain and its samplers."""
        if self.handle:
            self._c.llama_sampler_free(self.handle)
            self.handle = None


def _find_biases(model: Model, sampling: Sampling) -> list[tuple[int, float]]:
    """Return what is added to logits, by token: each token once, whatever forbids it."""
    biases = {item.token: item.bias for item in sampling.logit_bias}
    if sampling.ignore_eos:
        biases |= dict.fromkeys(model.end_tokens, -math.inf)
    biases |= dict.fromkeys(model.suppressed, -math.inf)
    return sorted(biases.items())

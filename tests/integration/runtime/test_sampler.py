"""A chain that sees only candidates chooses what it chooses among the whole vocabulary."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from g4cli.runtime.engine.candidates import CandidateArray
from g4cli.runtime.engine.options import Sampling, TokenBias
from g4cli.runtime.engine.sampler import Sampler
from g4cli.runtime.llama.library import load_llama


@pytest.fixture
def model() -> Any:
    """Return what a sampler asks of a model, with Gemma's vocabulary."""
    return SimpleNamespace(
        n_vocab=262144, n_ctx_train=131072, suppressed=(5, 6), end_tokens=(1, 106)
    )


class Logits:
    """What a sampler needs of a context."""

    row = 0
    handle = None

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def get_logits(self) -> Any:
        """Return a pointer to them."""
        return self.values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def sample_whole(sampler: Sampler, values: np.ndarray) -> int:
    """Return what the chain chooses among all tokens, as llama_sampler_sample hands them over."""
    c = load_llama()
    rows = np.zeros(len(values), [("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    rows["id"], rows["logit"] = np.arange(len(values)), values
    data = ctypes.cast(rows.ctypes.data, ctypes.POINTER(c.llama_token_data))
    array = c.llama_token_data_array(data, len(values), -1, False)
    c.llama_sampler_apply(sampler.handle, ctypes.byref(array))
    token = int(array.data[array.selected].id)
    c.llama_sampler_accept(sampler.handle, token)
    return token


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temp=0),
        Sampling(temp=0, ignore_eos=True, logit_bias=(TokenBias(77, 100.0), TokenBias(78, -100.0))),
        Sampling(seed=1),
        Sampling(seed=2, top_k=200, top_p=1.0, temp=2.0),
        Sampling(seed=3, logit_bias=(TokenBias(9, 12.0), TokenBias(10, 12.0)), min_p=0.1),
    ],
)
def test_the_same_tokens_are_chosen(model: Any, sampling: Sampling) -> None:
    fast, slow = Sampler(model, sampling), Sampler(model, sampling)
    fast.find_candidates_first()
    assert fast._candidates is not None
    random = np.random.default_rng(5)
    for index in range(16):
        values = random.standard_normal(model.n_vocab).astype(np.float32) * (1 + index % 4)
        values[random.integers(model.n_vocab, size=1 + index % 3)] += 8  # likely ones, or one
        context: Any = Logits(values)
        assert fast.sample_token(context) == sample_whole(slow, values)
    fast.close()
    slow.close()


@pytest.mark.parametrize(
    "sampling", [Sampling(top_k=0), Sampling(repeat_penalty=1.1), Sampling(top_k=500)]
)
def test_chains_that_may_choose_any_token_see_all(model: Any, sampling: Sampling) -> None:
    sampler = Sampler(model, sampling)
    sampler.find_candidates_first()
    assert sampler._candidates is None
    sampler.close()


@pytest.mark.parametrize(("last_n", "reserved"), [(64, 64), (-1, 131072), (1 << 24, 131072)])
def test_penalties_reserve_no_more_tokens_than_a_context_has(
    model: Any, monkeypatch: pytest.MonkeyPatch, last_n: int, reserved: int
) -> None:
    """Otherwise 60 requests of a client end a server with 2 GiB."""
    c = load_llama()
    init = Mock(side_effect=c.llama_sampler_init_penalties)
    monkeypatch.setattr(c, "llama_sampler_init_penalties", init)
    Sampler(model, Sampling(repeat_penalty=1.1, repeat_last_n=last_n)).close()
    assert init.call_args.args[1] == reserved


@pytest.mark.slow
def test_equal_or_broken_logits_are_left_to_llama_cpp(model: Any) -> None:
    sampler = Sampler(model, Sampling(seed=1))
    sampler.find_candidates_first()
    assert sampler._candidates is not None
    for value in (0.0, np.nan, -np.inf):
        values = np.full(model.n_vocab, value, np.float32)
        assert not sampler._candidates.find(Logits(values).get_logits())
    sampler.close()


@pytest.mark.slow_except("3-sampling0", "3-sampling3")
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temp=0),
        Sampling(seed=1),
        Sampling(seed=2, temp=2.0, top_k=0, top_p=1.0),
        Sampling(seed=3, repeat_penalty=1.3, logit_bias=(TokenBias(512, 4.0), TokenBias(9, 99.0))),
    ],
)
@pytest.mark.parametrize("n_allowed", [1, 3, 700])
def test_a_few_allowed_tokens_are_sampled_as_if_the_others_were_impossible(
    model: Any, sampling: Sampling, n_allowed: int
) -> None:
    few, masked = Sampler(model, sampling), Sampler(model, sampling)
    random, candidates = np.random.default_rng(6), CandidateArray()
    for _ in range(16):
        values = random.standard_normal(model.n_vocab).astype(np.float32)
        ids = np.sort(random.choice(model.n_vocab, n_allowed, replace=False))
        token = few.sample_among(candidates, ids, values)
        others = np.full_like(values, -np.inf)
        others[ids] = values[ids]
        assert token == sample_whole(masked, others)
    few.close()
    masked.close()


def test_a_forbidden_token_is_not_sampled_though_no_other_is_allowed(model: Any) -> None:
    sampler = Sampler(model, Sampling(logit_bias=(TokenBias(7, -np.inf),)))
    values = np.zeros(model.n_vocab, np.float32)
    assert sampler.sample_among(CandidateArray(), np.array([7]), values) == -1
    assert sampler.sample_among(CandidateArray(), np.array([7, 9]), values) == 9
    sampler.close()

"""The planner, on estimates small enough to check by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from g4cli.core.ggml import F16, GGMLType
from g4cli.core.units import GIB, MIB
from g4cli.estimate import HOST, Estimate, Options, Term, estimate_memory
from g4cli.fit.context import largest_context, plan_context
from g4cli.fit.memory import Memory, judge_estimate
from g4cli.fit.plan import plan_fit
from g4cli.fit.ranking import TypeVariant, rank_types
from tests.support.builders import shapes


@dataclass(frozen=True)
class Weights:
    """A tensor of a given size."""

    nbytes: int
    name: str = "blk.0.ffn_up.weight"
    type: GGMLType = F16
    shape: tuple[int, ...] = (1,)


def estimate_of(n: int) -> Estimate:
    return Estimate((Term("weights", HOST, "weights", n), Term("table", HOST, "disk", 10**15)))


def test_fits_and_says_what_stays_free() -> None:
    found = judge_estimate(estimate_of(4 * GIB), [Memory(HOST, 16 * GIB, 8 * GIB)])
    assert found.fits
    assert found.reason == "4.00 GiB needed, 8.00 GiB free; 4.00 GiB stays free"


def test_the_margin_is_kept() -> None:
    memory = Memory(HOST, 16 * GIB, 5 * GIB)
    assert memory.reserve_bytes == GIB
    assert judge_estimate(estimate_of(4 * GIB), [memory]).fits
    assert not judge_estimate(estimate_of(4 * GIB + 1), [memory]).fits


def test_the_reserve_of_a_small_machine_is_an_eighth() -> None:
    assert Memory(HOST, 4 * GIB, 4 * GIB).reserve_bytes == 512 * MIB


def test_reasons_of_a_refusal() -> None:
    busy = judge_estimate(estimate_of(4 * GIB), [Memory(HOST, 16 * GIB, 2 * GIB)])
    assert not busy.fits
    assert busy.reason.endswith("close other programs")
    tight = judge_estimate(estimate_of(15 * GIB + 1), [Memory(HOST, 16 * GIB, 16 * GIB)])
    assert tight.reason.endswith("less than 1.00 GiB would stay free")
    never = judge_estimate(estimate_of(17 * GIB), [Memory(HOST, 16 * GIB, 16 * GIB)])
    assert never.reason == "17.0 GiB needed, 16.0 GiB free, 16.0 GiB in all"


def test_the_largest_context_is_the_last_that_fits() -> None:
    weights = [Weights(3 * GIB)]
    options = Options(4096)
    memory = Memory(HOST, 64 * GIB, 5 * GIB)
    best = largest_context(shapes.G31B, weights, options, [memory])
    assert best % 256 == 0
    assert 0 < best < shapes.G31B.n_ctx_train

    def needed_bytes(n_ctx: int) -> int:
        return estimate_memory(shapes.G31B, weights, replace(options, n_ctx=n_ctx)).total_bytes

    assert needed_bytes(best) <= memory.usable_bytes < needed_bytes(best + 256)


def test_the_whole_context_or_none() -> None:
    assert largest_context(shapes.E2B, [], Options(1), [Memory(HOST, 64 * GIB, 64 * GIB)]) == 131072
    assert largest_context(shapes.E2B, [], Options(1), [Memory(HOST, 64 * GIB, 1)]) == 0


@pytest.mark.slow
def test_the_planned_context_says_why() -> None:
    plenty = plan_context(shapes.E2B, [], Options(1), [Memory(HOST, 64 * GIB, 64 * GIB)])
    assert (plenty.n_ctx, plenty.reason) == (
        131072,
        "context 131,072: the largest that the model was trained for",
    )
    tiny = plan_context(shapes.TINY, [], Options(1), [Memory(HOST, 64 * GIB, 64 * GIB)])
    assert (tiny.n_ctx, tiny.reason) == (
        2048,
        "context 2,048: the largest that the model was trained for",
    )
    tight = plan_context(shapes.G31B, [], Options(1), [Memory(HOST, 64 * GIB, 4 * GIB)])
    assert 0 < tight.n_ctx < shapes.G31B.n_ctx_train
    assert tight.reason == f"context {tight.n_ctx:,}: the largest that leaves 1.00 GiB free"
    nothing = plan_context(shapes.G31B, [], Options(1), [Memory(HOST, 64 * GIB, MIB)])
    assert nothing.n_ctx == 4096
    assert "no context fits" in nothing.reason


def test_the_plan_keeps_what_was_asked_for() -> None:
    memories = [Memory(HOST, 64 * GIB, 3 * GIB)]
    asked = plan_fit(shapes.G31B, [], Options(65536), memories)
    assert asked.options.n_ctx == 65536  # never lowered
    assert not asked.verdict.fits
    most = plan_fit(shapes.G31B, [], Options(262144), memories, context_choice="max")
    assert most.options.n_ctx == asked.largest_ctx
    assert most.verdict.fits
    assert [row.n_ctx for row in most.contexts] == [4096, 8192, 16384, 32768, 65536, 131072, 262144]


def test_one_token_is_in_the_singular() -> None:
    memories = [Memory(HOST, 64 * GIB, 64 * GIB)]
    plan = plan_fit(shapes.E2B, [], Options(1), memories)
    notes = [term.note for term in plan.estimate.terms if term.name == "compute buffer"]
    assert notes == ["1 token at once"]
    ranking = rank_types(shapes.E2B, [TypeVariant("q8_0", [], Options(1))], memories, n_ctx=1)
    assert ranking.reason == "q8_0: the most precise that fits with 1 token"


def test_unlisted_weights_are_counted_where_the_first_layer_is() -> None:
    """The published file is larger than the tensors of g4's recipe say, or smaller."""
    options = Options(4096, unlisted_weight_bytes=GIB)
    plain = estimate_memory(shapes.E2B, [Weights(GIB)], replace(options, unlisted_weight_bytes=0))
    larger = estimate_memory(shapes.E2B, [Weights(GIB)], options)
    assert larger.weights_bytes - plain.weights_bytes == GIB
    smaller = estimate_memory(
        shapes.E2B, [Weights(2 * GIB)], replace(options, unlisted_weight_bytes=-GIB)
    )
    assert smaller.weights_bytes == plain.weights_bytes
    on_gpu = estimate_memory(
        shapes.E2B, [Weights(GIB)], replace(options, n_gpu_layers=-1), ("CUDA0",)
    )
    assert on_gpu.sum_bytes(group="weights", device="CUDA0") == 2 * GIB

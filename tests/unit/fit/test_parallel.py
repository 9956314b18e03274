"""How many conversations fit at once, with what context."""

from __future__ import annotations

from g4cli.core.units import GIB
from g4cli.estimate import HOST, Options, estimate_memory
from g4cli.fit.memory import Memory
from g4cli.fit.parallel import MAX_AUTO_PARALLEL, plan_parallel, share_context
from tests.support.builders import shapes
from tests.unit.fit.test_fit import Weights

WEIGHTS = [Weights(3 * GIB)]


def host(free_gib: float) -> list[Memory]:
    """Return a machine with `free_gib` free, of which a plan may use all but 1 GiB."""
    return [Memory(HOST, 64 * GIB, int(free_gib * GIB))]


def test_as_many_as_fit_with_a_common_context() -> None:
    plans = [plan_parallel(shapes.E2B, WEIGHTS, Options(1), host(gib)) for gib in (4.9, 5.1, 16)]
    assert [plan.n_parallel for plan in plans] == sorted(plan.n_parallel for plan in plans)
    assert plans[-1].n_parallel == MAX_AUTO_PARALLEL
    assert plans[-1].n_ctx == shapes.E2B.n_ctx_train
    assert all(plan.fits and plan.n_ctx >= 32768 for plan in plans)
    assert plans[-1].options.n_ctx == MAX_AUTO_PARALLEL * plans[-1].n_ctx
    assert "4 conversations at once, 131,072 tokens each" in plans[-1].reason


def test_a_small_machine_runs_one_at_a_time() -> None:
    plan = plan_parallel(shapes.E2B, WEIGHTS, Options(1), host(4.4))
    assert (plan.n_parallel, plan.fits) == (1, True)
    assert plan.reason.startswith("one conversation at a time")
    assert not plan_parallel(shapes.E2B, WEIGHTS, Options(1), host(3)).fits


def test_a_requested_number_is_kept_and_judged() -> None:
    asked = plan_parallel(shapes.E2B, WEIGHTS, Options(1), host(16), n_parallel=7, n_ctx=8192)
    assert (asked.n_parallel, asked.n_ctx, asked.fits) == (7, 8192, True)
    assert asked.reason.endswith("as requested")
    longest = plan_parallel(shapes.E2B, WEIGHTS, Options(1), host(5.1), n_parallel=7)
    assert longest.fits
    assert longest.n_ctx % 256 == 0
    # 256 more tokens each would need more than the 5.1 GiB without the reserve.
    larger = share_context(Options(1), 7, longest.n_ctx + 256)
    assert estimate_memory(shapes.E2B, WEIGHTS, larger).sum_bytes(device=HOST) > int(4.1 * GIB)


def test_prompt_lookup_needs_four_rows_of_logits_however_many_conversations_there_are() -> None:
    plans = {n: share_context(Options(1, n_draft=3), n, 4096) for n in (1, 2, 8)}
    assert {n: plan.outputs for n, plan in plans.items()} == {1: 4, 2: 4, 8: 8}

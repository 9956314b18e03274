"""How many conversations fit at once, and what llama.cpp makes of the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from g4cli.core.gguf import read_header
from g4cli.core.shape import shape_of
from g4cli.core.units import GIB, MIB
from g4cli.estimate import HOST, Options, estimate_memory, kv_bytes
from g4cli.fit import MOST_PARALLEL, Memory, plan_parallel, share_context
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions
from g4cli.runtime.llama.interrupt import Interrupt
from tests.support.builders import shapes
from tests.support.builders.media_files import write
from tests.support.builders.tiny_file import build_tiny
from tests.unit.fit.test_fit import Weights

WEIGHTS = [Weights(3 * GIB)]


def host(free_gib: float) -> list[Memory]:
    return [Memory(HOST, 64 * GIB, int(free_gib * GIB))]


def test_as_many_as_fit_with_a_common_context() -> None:
    plans = [plan_parallel(shapes.E2B, WEIGHTS, Options(1), host(gib)) for gib in (4.9, 5.1, 16)]
    assert [plan.n_parallel for plan in plans] == sorted(plan.n_parallel for plan in plans)
    assert plans[-1].n_parallel == MOST_PARALLEL
    assert plans[-1].n_ctx == shapes.E2B.n_ctx_train
    assert all(plan.fits and plan.n_ctx >= 32768 for plan in plans)
    assert plans[-1].options.n_ctx == MOST_PARALLEL * plans[-1].n_ctx
    assert "4 conversations at once, 131,072 tokens each" in plans[-1].reason


def test_a_small_machine_runs_one_at_a_time() -> None:
    plan = plan_parallel(shapes.E2B, WEIGHTS, Options(1), host(4.4))
    assert (plan.n_parallel, plan.fits) == (1, True)
    assert plan.reason.startswith("one conversation at a time")
    assert not plan_parallel(shapes.E2B, WEIGHTS, Options(1), host(3)).fits


def test_what_is_asked_for_is_kept_and_judged() -> None:
    asked = plan_parallel(shapes.E2B, WEIGHTS, Options(1), host(16), n_parallel=7, n_ctx=8192)
    assert (asked.n_parallel, asked.n_ctx, asked.fits) == (7, 8192, True)
    assert asked.reason.endswith("as requested")
    longest = plan_parallel(shapes.E2B, WEIGHTS, Options(1), host(5.1), n_parallel=7)
    assert longest.fits
    assert longest.n_ctx % 256 == 0
    one_more = share_context(Options(1), 7, longest.n_ctx + 256)
    assert estimate_memory(shapes.E2B, WEIGHTS, one_more).sum_bytes(device=HOST) > int(4.1 * GIB)


def test_drafting_is_for_one_conversation() -> None:
    options = Options(1, n_draft=3)
    assert share_context(options, 1, 4096).n_draft == 3
    assert share_context(options, 2, 4096).n_draft == 0


@pytest.mark.slow
def test_llama_cpp_allocates_what_is_planned(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", build_tiny())
    shape = shape_of(read_header(path))
    model = Model(path)
    for n_parallel, n_ctx in ((1, 1024), (3, 1000), (4, 2048)):
        context = Context(model, ContextOptions(n_ctx, n_parallel=n_parallel), Interrupt())
        planned = share_context(Options(1, repack=frozenset()), n_parallel, n_ctx)
        assert context.n_ctx == -(-n_ctx // 256) * 256
        # llama.cpp prints MiB with two digits, a line for each kind of layer.
        assert context.kv_bytes == pytest.approx(sum(kv_bytes(shape, planned)), abs=0.01 * MIB)
        terms = estimate_memory(shape, (), replace(planned, n_ctx=planned.n_ctx)).terms
        compute = sum(term.nbytes for term in terms if term.name == "compute buffer")
        assert context.compute_bytes == pytest.approx(compute, abs=0.01 * MIB)
        context.close()
    model.close()

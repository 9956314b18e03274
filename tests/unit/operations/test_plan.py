"""What a chat opens by itself: the context and the layers on GPUs, with what the user wrote left
alone.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from g4cli.core.errors import UsageError
from g4cli.core.gguf import read_header
from g4cli.core.units import GIB, MORE_LAYERS
from g4cli.core.worker_address import WorkerOptions, parse_worker_addresses
from g4cli.fit.memory import Memory
from g4cli.host import Gpu, HostFacts
from g4cli.operations.chat import plan as chat_plan
from g4cli.operations.chat.plan import ChatPlan, plan_chat, replace_gpus
from g4cli.operations.chat.request import ChatRequest
from g4cli.operations.models import LoadableModel
from g4cli.runtime.engine.messages import DeviceFacts
from g4cli.runtime.engine.options import ModelOptions
from tests.support.builders import real_mmproj, real_shapes, shapes
from tests.support.fakes.reporter import RecordingReporter


def machine(free: int, *gpus: Gpu) -> HostFacts:
    return HostFacts(64 * GIB, free, "memory", frozenset(), gpus)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadableModel]:
    """Return files without weights of two published shapes, with a small vocabulary."""
    folder = tmp_path_factory.mktemp("shapes")
    found = {}
    for model in ("e2b", "26b"):
        path = folder / f"{model}.gguf"
        vocabulary = real_shapes.synthetic_vocabulary(300)
        real_shapes.build(path, model, shapes.ALL[model], "q4_0", vocabulary=vocabulary)
        found[model] = LoadableModel(path, read_header(path), True)
    return found


def plan(
    model: LoadableModel,
    host: HostFacts,
    reporter: RecordingReporter | None = None,
    *,
    draft: str = "off",
    n_parallel: int = 1,
    **changes: Any,
) -> ChatPlan:
    request = ChatRequest(model="it", **changes)
    return plan_chat(
        request, model, host, reporter or RecordingReporter(), draft=draft, n_parallel=n_parallel
    )


def test_on_a_cpu_only_the_context_is_planned(files: dict[str, LoadableModel]) -> None:
    reporter = RecordingReporter()
    found = plan(files["e2b"], machine(32 * GIB), reporter)
    assert (found.n_ctx, found.loading) == (131072, ModelOptions())
    assert (found.fits, found.n_parallel) == (True, 1)
    # Private memory: the file's pages do not count, the KV cache and repacked weights do.
    assert 3 * GIB < found.data_bytes < 12 * GIB
    assert reporter.messages == []
    found = plan(files["26b"], machine(16 * GIB), reporter)
    assert 4096 < found.n_ctx < 262144
    broken = replace(files["e2b"], use_extra_bufts=False)
    assert plan(broken, machine(32 * GIB)).loading == ModelOptions(use_extra_bufts=False)
    assert reporter.messages == [f"context {found.n_ctx:,}: the largest that leaves 1.00 GiB free"]


def test_what_was_asked_for_is_left_alone(files: dict[str, LoadableModel]) -> None:
    gpu = Gpu("CUDA0", "a card", 2 * GIB, GIB)
    for changes in ({"gpu_layers": "7"}, {"device": "CPU"}, {"cpu_moe": True}):
        found = plan(files["e2b"], machine(32 * GIB, gpu), ctx="8k", **changes)
        assert found.n_ctx == 8192
        assert found.loading.n_cpu_moe == (MORE_LAYERS if "cpu_moe" in changes else 0)
        if "gpu_layers" in changes:
            assert found.loading.n_gpu_layers == 7


def test_layers_that_are_asked_for_are_planned(files: dict[str, LoadableModel]) -> None:
    small, host = Gpu("CUDA0", "a card", GIB, GIB), machine(32 * GIB)
    reporter = RecordingReporter()
    found = plan(files["e2b"], machine(32 * GIB, small), reporter, ctx="8k", gpu_layers="all")
    assert not found.fits
    assert reporter.warnings[0].startswith("the model may not fit into memory: ")
    # Without an offloaded layer a card changes nothing.
    big, low = Gpu("CUDA0", "a card", 80 * GIB, 79 * GIB), machine(5 * GIB)
    alone = plan(files["e2b"], low)
    beside = plan(files["e2b"], machine(5 * GIB, big), gpu_layers="0")
    assert (beside.n_ctx, beside.loading.n_gpu_layers) == (alone.n_ctx, 0)
    assert beside.spare_bytes == alone.spare_bytes
    assert plan(files["e2b"], machine(5 * GIB, big)).n_ctx > alone.n_ctx
    assert plan(files["e2b"], host, gpu_layers="all").fits


def test_only_the_device_that_is_asked_for_counts(files: dict[str, LoadableModel]) -> None:
    first, second = (Gpu(name, "a card", GIB, GIB) for name in ("CUDA0", "CUDA1"))
    alone = plan(files["e2b"], machine(32 * GIB, first), ctx="8k")
    assert 0 < alone.loading.n_gpu_layers < 36
    both = machine(32 * GIB, first, second)
    chosen = plan(files["e2b"], both, ctx="8k", device="cuda0")
    assert chosen == replace(alone, loading=replace(alone.loading, device="cuda0"))
    assert plan(files["e2b"], both, ctx="8k") != alone
    split = plan(files["e2b"], both, ctx="8k", workers=WorkerOptions(tensor_split=(3, 1)))
    assert split.loading.tensor_split == (3, 1)
    # llama.cpp's own CPU device needs no plan; the driver of the card is loaded all the same.
    assert plan(files["e2b"], both, ctx="8k", device="CPU").data_bytes == 0


def test_as_many_layers_without_their_experts_as_fit(files: dict[str, LoadableModel]) -> None:
    reporter, card = RecordingReporter(), Gpu("CUDA0", "a card", 2 * GIB, 2 * GIB)
    found = plan(files["26b"], machine(32 * GIB, card), reporter, ctx="8k", cpu_moe=True)
    assert found.fits
    assert (0 < found.loading.n_gpu_layers < 31, found.loading.n_cpu_moe) == (True, MORE_LAYERS)
    assert "the experts of all layers in host memory" in reporter.messages[-1]


@pytest.mark.parametrize("n_parallel", [1, 2])
def test_experts_stay_here_and_layers_go_to_a_worker(
    files: dict[str, LoadableModel], monkeypatch: pytest.MonkeyPatch, n_parallel: int
) -> None:
    worker = Memory("RPC0", 4 * GIB, 4 * GIB, place="laptop:50052")
    monkeypatch.setattr(chat_plan, "ask_worker_memories", lambda _: (worker,))
    to = WorkerOptions(parse_worker_addresses("laptop"))
    host, options = machine(32 * GIB), {"ctx": "8k", "cpu_moe": True, "workers": to}
    found = plan(files["26b"], host, n_parallel=n_parallel, **options)
    assert (found.fits, found.data_bytes) == (True, 0)
    assert found.loading == ModelOptions(
        n_cpu_moe=MORE_LAYERS, workers=("laptop:50052",), tensor_split=(31,)
    )


def test_several_conversations_leave_the_host_what_a_card_takes(
    files: dict[str, LoadableModel],
) -> None:
    card = Gpu("CUDA0", "a card", 80 * GIB, 79 * GIB)
    options = {"ctx": "8k", "mmap": False}
    one = plan(files["e2b"], machine(8 * GIB, card), **options)
    two = plan(files["e2b"], machine(8 * GIB, card), n_parallel=2, **options)
    assert 0 < one.spare_bytes - two.spare_bytes < GIB
    assert 0 < two.resident_bytes - one.resident_bytes < GIB


@pytest.mark.parametrize("n_parallel", [1, 2])
def test_a_context_beyond_the_model_is_planned_as_it_is(
    files: dict[str, LoadableModel], n_parallel: int
) -> None:
    """2,000,000 tokens of E2B have 6 KiB each in its layers of full attention: 12.3 GB."""
    for free, fits in ((8, False), (60, True)):
        reporter, host = RecordingReporter(), machine(free * GIB)
        found = plan(files["e2b"], host, reporter, ctx="2000000", n_parallel=n_parallel)
        assert (found.n_ctx, found.n_parallel, found.fits) == (2_000_000, n_parallel, fits)
        assert found.data_bytes > n_parallel * 2_000_000 * 6 * 1024
        assert any("was trained for" in text for text in reporter.warnings)
        assert any("may not fit" in text for text in reporter.warnings) is not fits


def test_a_context_beyond_the_model_is_warned_of_not_lowered(
    files: dict[str, LoadableModel],
) -> None:
    reporter = RecordingReporter()
    assert plan(files["e2b"], machine(32 * GIB), reporter, ctx="200000").n_ctx == 200_000
    assert "the 131,072 tokens that this model was trained for" in reporter.warnings[0]
    for n_parallel in (1, 2):
        with pytest.raises(UsageError, match="a context of 99,999,999 tokens"):
            plan(files["e2b"], machine(32 * GIB), ctx="99999999", n_parallel=n_parallel)


def test_layers_that_do_not_fit_stay_behind(files: dict[str, LoadableModel]) -> None:
    reporter, small = RecordingReporter(), Gpu("CUDA0", "a card", GIB, GIB)
    found = plan(files["e2b"], machine(32 * GIB, small), reporter, ctx="8k")
    assert 0 < found.loading.n_gpu_layers < 36
    assert reporter.messages[-1].startswith(
        f"the last {found.loading.n_gpu_layers} of 36 layers on CUDA0"
    )


def test_a_long_context_pushes_no_layer_off_the_card(files: dict[str, LoadableModel]) -> None:
    reporter, card = RecordingReporter(), Gpu("CUDA0", "a card", 2 * GIB, 2 * GIB)
    found = plan(files["e2b"], machine(64 * GIB, card), reporter)
    assert (32768 < found.n_ctx < 131072, found.loading.n_gpu_layers) == (True, -1)
    assert "the largest with these layers on the GPU (131,072 if more" in reporter.messages[0]
    assert reporter.messages[1].startswith("all 35 layers on CUDA0")


def test_the_encoder_beside_the_model_counts_with_the_first_picture(
    files: dict[str, LoadableModel],
) -> None:
    model = files["e2b"]
    mmproj = real_mmproj.build(model.path.parent / "mmproj-e2b.gguf", "e2b")
    found = plan(model, machine(5 * GIB))
    with_picture = plan(model, machine(5 * GIB), image=[Path("p.png")])
    named = plan(model, machine(5 * GIB), mmproj=mmproj)
    mmproj.unlink()
    assert with_picture.n_ctx == named.n_ctx < found.n_ctx
    assert plan(model, machine(5 * GIB), image=[Path("p.png")]).n_ctx == found.n_ctx


def test_drafting_counts(files: dict[str, LoadableModel], tmp_path: Path) -> None:
    model, host = files["e2b"], machine(5 * GIB)
    vocabulary = real_shapes.synthetic_vocabulary(300)
    path = real_shapes.build_draft(
        tmp_path / "d.gguf", shapes.E2B, shapes.DRAFTS["e2b"], "q8_0", vocabulary=vocabulary
    )
    lengths = [
        plan(model, host, draft=wish, ctx="max").n_ctx for wish in ("off", "lookup", str(path))
    ]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] >= lengths[1] > lengths[2] > 0


@pytest.mark.slow
def test_experts_stay_behind_first(files: dict[str, LoadableModel]) -> None:
    card = Gpu("CUDA0", "a card", 12 * GIB, 12 * GIB)
    found = plan(files["26b"], machine(32 * GIB, card), ctx="8k")
    assert (found.loading.n_gpu_layers, found.fits) == (-1, True)
    assert 0 < found.loading.n_cpu_moe < 30  # as the planner counted: not the experts of all layers


def test_what_does_not_fit_is_opened_with_a_warning(files: dict[str, LoadableModel]) -> None:
    reporter = RecordingReporter()
    assert plan(files["26b"], machine(8 * GIB), reporter, ctx="256k").n_ctx == 262_144
    assert reporter.warnings[0].startswith("the model may not fit into memory: ")
    assert reporter.warnings[0].endswith("(g4 fit it)")


def test_the_largest_context(files: dict[str, LoadableModel]) -> None:
    reporter = RecordingReporter()
    found = plan(files["26b"], machine(16 * GIB), reporter, ctx="max")
    assert 4096 < found.n_ctx < 262144
    assert reporter.messages == [f"context {found.n_ctx:,}: the largest that fits"]


def test_gpus_are_seen_live() -> None:
    devices = [DeviceFacts("CPU", "a CPU", "cpu", 2, 3), DeviceFacts("CUDA0", "a GPU", "gpu", 4, 5)]
    found = replace_gpus(machine(GIB), devices)
    assert found.gpus == (Gpu("CUDA0", "a GPU", 5, 4, unified=sys.platform == "darwin"),)

"""Where the layers of a bench or an evaluation go: as asked for, or as a chat would plan them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from g4cli.core.errors import UsageError
from g4cli.core.gguf import read_header
from g4cli.core.units import GIB
from g4cli.core.worker_address import NO_WORKERS, WorkerOptions, parse_worker_addresses
from g4cli.fit.memory import Memory
from g4cli.host import Gpu, HostFacts
from g4cli.operations import workers
from g4cli.operations.models import LoadableModel, make_model_options
from g4cli.operations.workers import place_layers_of_run
from g4cli.runtime.engine.options import ALL_LAYERS, ModelOptions
from tests.support.builders import real_shapes, shapes
from tests.support.fakes.reporter import RecordingReporter


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadableModel:
    """Return a file without weights of the shape of E2B, with a small vocabulary."""
    path = tmp_path_factory.mktemp("shapes") / "e2b.gguf"
    vocabulary = real_shapes.synthetic_vocabulary(300)
    real_shapes.build(path, "e2b", shapes.ALL["e2b"], "q4_0", vocabulary=vocabulary)
    return LoadableModel(path, read_header(path), True)


def place(
    model: LoadableModel,
    monkeypatch: pytest.MonkeyPatch,
    *cards: Gpu,
    gpu_layers: str = "auto",
    device: str | None = None,
    to: WorkerOptions = NO_WORKERS,
    reporter: RecordingReporter | None = None,
) -> ModelOptions:
    host = HostFacts(64 * GIB, 32 * GIB, "memory", frozenset(), cards)
    monkeypatch.setattr(workers, "read_host", lambda: host)
    loading = make_model_options(model, gpu_layers=gpu_layers, device=device, workers=to)
    return place_layers_of_run(
        model, loading, to, n_ctx=512, reporter=reporter or RecordingReporter()
    )


def test_a_card_gets_as_many_layers_as_fit(
    model: LoadableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = GIB // 2
    small, large = Gpu("CUDA0", "a card", half, half), Gpu("CUDA1", "a card", 24 * GIB, 24 * GIB)
    assert 0 < place(model, monkeypatch, small).n_gpu_layers < 35
    assert place(model, monkeypatch, large).n_gpu_layers == ALL_LAYERS
    alone = replace(place(model, monkeypatch, small), device="cuda0")
    assert place(model, monkeypatch, small, large, device="cuda0") == alone


def test_what_was_asked_for_is_left_alone(
    model: LoadableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Gpu("CUDA0", "a card", GIB // 2, GIB // 2)
    assert place(model, monkeypatch, small, gpu_layers="35") == ModelOptions(35)
    assert place(model, monkeypatch, small, device="CPU") == ModelOptions(device="CPU")
    assert place(model, monkeypatch) == ModelOptions()


def test_only_layers_on_other_machines_cross_the_network(
    model: LoadableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter, small = RecordingReporter(), Gpu("CUDA0", "a card", GIB // 2, GIB // 2)
    assert 0 < place(model, monkeypatch, small, reporter=reporter).n_gpu_layers < 35
    assert reporter.warnings == []
    laptop = (Memory("RPC0", 8 * GIB, 8 * GIB, place="laptop:50052"),)
    monkeypatch.setattr(workers, "ask_worker_memories", lambda _: laptop)
    to = WorkerOptions(parse_worker_addresses("laptop"))
    place(model, monkeypatch, to=to, gpu_layers="20", reporter=reporter)
    assert "these cross the network for each token" in reporter.warnings[0]


@pytest.mark.parametrize("gpu_layers", ["auto", "10"])
def test_a_split_has_a_number_for_each_device(
    model: LoadableModel, monkeypatch: pytest.MonkeyPatch, gpu_layers: str
) -> None:
    cards = [Gpu(f"CUDA{i}", "a card", 24 * GIB, 24 * GIB) for i in range(2)]
    to = WorkerOptions(tensor_split=(1, 2))
    for some, what in ((0, "0 devices: none"), (1, "1 device: CUDA0")):
        with pytest.raises(UsageError, match=f"has 2 numbers; the layers go to {what}"):
            place(model, monkeypatch, *cards[:some], gpu_layers=gpu_layers, to=to)
    found = place(model, monkeypatch, *cards, gpu_layers=gpu_layers, to=to)
    n_layers = ALL_LAYERS if gpu_layers == "auto" else int(gpu_layers)
    assert found == ModelOptions(n_layers, tensor_split=(1, 2))

"""Where the layers of a bench or an evaluation go: as asked for, or as a chat would plan them."""

from __future__ import annotations

import pytest

from g4cli.core.gguf import read_header
from g4cli.core.units import GIB
from g4cli.core.worker_address import NO_WORKERS
from g4cli.host import Gpu, GpuList, HostFacts
from g4cli.operations import workers
from g4cli.operations.models import LoadableModel
from g4cli.operations.workers import LayerPlaces, place_layers_of_run
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
) -> LayerPlaces:
    host = HostFacts(64 * GIB, 32 * GIB, "memory", frozenset(), GpuList(cards, "0.3.36", 0.0))
    monkeypatch.setattr(workers, "read_host", lambda: host)
    return place_layers_of_run(
        model,
        NO_WORKERS,
        gpu_layers=gpu_layers,
        device=device,
        n_ctx=512,
        reporter=RecordingReporter(),
    )


def test_a_card_gets_as_many_layers_as_fit(
    model: LoadableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = GIB // 2
    small, large = Gpu("CUDA0", "a card", half, half), Gpu("CUDA1", "a card", 24 * GIB, 24 * GIB)
    assert 0 < int(place(model, monkeypatch, small).gpu_layers) < 35
    assert place(model, monkeypatch, large).gpu_layers == "auto"  # all of them
    assert place(model, monkeypatch, small, large, device="cuda0") == place(
        model, monkeypatch, small
    )


def test_what_was_asked_for_is_left_alone(
    model: LoadableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Gpu("CUDA0", "a card", GIB // 2, GIB // 2)
    assert place(model, monkeypatch, small, gpu_layers="35") == ("35", 0, ())
    assert place(model, monkeypatch, small, device="CPU") == ("auto", 0, ())
    assert place(model, monkeypatch) == ("auto", 0, ())

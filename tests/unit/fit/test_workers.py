"""Layers over several machines: every placement fits, and nothing is sent that need not be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from g4cli.core.inventory import text_tensors
from g4cli.core.shape import Shape
from g4cli.core.units import GIB
from g4cli.estimate import HOST, Options, estimate_memory, keeps_layers_together
from g4cli.estimate.placement import layer_devices
from g4cli.fit.context import largest_context, try_options
from g4cli.fit.memory import Memory, judge_estimate
from g4cli.fit.placement import place_layers
from g4cli.quant.recipes import Recipe, choose_types
from tests.support.builders import shapes


def machines(host: int, *workers: int) -> list[Memory]:
    return [
        Memory(HOST, host * GIB, host * GIB * 7 // 8, is_assumed=True),
        *(
            Memory(f"RPC{i}", n * GIB, n * GIB * 7 // 8, is_assumed=True, place=f"w{i}:50052")
            for i, n in enumerate(workers)
        ),
    ]


def place(
    shape: Shape, kind: str, n_ctx: int, memories: list[Memory]
) -> tuple[Options, tuple[str, ...], bool]:
    tensors = choose_types(text_tensors(shape), Recipe(kind))
    trial = try_options(shape, tensors, Options(n_ctx, repack=frozenset({"Q4_0"})), memories)
    names = tuple(m.name for m in memories[1:])
    return trial.options, layer_devices(shape.n_layer, trial.options, names), trial.verdict.fits


def test_31b_in_8_bits_fits_three_laptops_of_16_gb() -> None:
    options, devices, fits = place(shapes.G31B, "q8_0", 8192, machines(16, 16, 16))
    assert fits
    counts = Counter(devices)
    assert set(counts) == {HOST, "RPC0", "RPC1"}
    assert sum(counts.values()) == 61
    assert options.tensor_split == (counts["RPC0"], counts["RPC1"])
    assert not place(shapes.G31B, "q8_0", 8192, machines(16, 16))[2]


@pytest.mark.parametrize("workers", [(16, 16, 16), (24, 8, 16), (8, 24), (40,), (4, 64)])
def test_every_worker_holds_what_fits_it(workers: tuple[int, ...]) -> None:
    memories = machines(64, *workers)
    options, devices, fits = place(shapes.G31B, "q8_0", 16384, memories)
    assert fits
    assert list(devices) == sorted(devices, key=lambda d: (d != HOST, d))  # in llama.cpp's order
    tensors = choose_types(text_tensors(shapes.G31B), Recipe("q8_0"))
    estimate = estimate_memory(shapes.G31B, tensors, options, tuple(m.name for m in memories[1:]))
    assert judge_estimate(estimate, memories).fits
    for i, size in enumerate(workers):
        assert estimate.sum_bytes(device=f"RPC{i}") <= size * GIB * 7 // 8


def test_workers_are_filled_to_the_same_part() -> None:
    _, devices, _ = place(shapes.G31B, "q8_0", 8192, machines(64, 64, 32))
    counts = Counter(devices)
    assert HOST not in counts
    assert 1.7 < counts["RPC0"] / counts["RPC1"] < 2.4


@pytest.mark.parametrize("shape", [shapes.E2B, shapes.E4B])
def test_layers_that_share_keys_stay_on_one_machine(shape: Shape) -> None:
    """llama.cpp would send the cells of the shared layers for each token."""
    assert keeps_layers_together(shape)
    _, devices, fits = place(shape, "q4_0", 8192, machines(16, 2, 16))
    assert fits
    assert set(devices) == {"RPC1"}
    assert set(place(shape, "bf16", 8192, machines(64, 2, 2))[1]) == {HOST}
    assert not keeps_layers_together(shapes.G31B)


def test_a_number_of_layers_that_was_asked_for_stays() -> None:
    memories = machines(64, 32, 32)
    tensors = choose_types(text_tensors(shapes.G31B), Recipe("q8_0"))
    options = replace(Options(8192), n_gpu_layers=20, fixed_layout=True)
    placed = place_layers(shapes.G31B, tensors, options, memories).options
    devices = layer_devices(60, placed, ("RPC0", "RPC1"))
    assert Counter(devices)[HOST] == 41
    assert placed.tensor_split == (10.0, 10.0) or sum(placed.tensor_split) == 20


def test_no_layers_need_no_proportions() -> None:
    tensors = choose_types(text_tensors(shapes.G12B), Recipe("q4_0"))
    options = replace(Options(8192), n_gpu_layers=0, fixed_layout=True)
    placement = place_layers(shapes.G12B, tensors, options, machines(32, 16))
    assert placement.chat_option == "--gpu-layers 0"


def test_proportions_that_were_asked_for_stay() -> None:
    tensors = choose_types(text_tensors(shapes.G31B), Recipe("q8_0"))
    options = Options(8192, tensor_split=(3.0, 1.0))
    placed = place_layers(shapes.G31B, tensors, options, machines(64, 64, 64)).options
    assert placed.tensor_split == (3.0, 1.0)


def test_a_worker_without_memory_gets_no_layer() -> None:
    _, devices, fits = place(shapes.G31B, "q4_0", 4096, machines(64, 1, 64))
    assert fits
    assert set(devices) == {"RPC1"}


@pytest.mark.slow
def test_more_workers_hold_a_longer_context() -> None:
    tensors = choose_types(text_tensors(shapes.G31B), Recipe("q8_0"))
    contexts = [
        largest_context(shapes.G31B, tensors, Options(4096), machines(16, *[16] * n))
        for n in (1, 2, 3)
    ]
    assert contexts[0] == 0 < contexts[1] < contexts[2]


def test_repacked_weights_stay_repacked_beside_workers() -> None:
    """Only a GPU of this machine has a host buffer that llama.cpp prefers to repacking."""
    tensors = choose_types(text_tensors(shapes.G31B), Recipe("q4_0"))
    options = Options(4096, n_gpu_layers=10, repack=frozenset({"Q4_0"}))
    for gpu, expected in (("RPC0", True), ("CUDA0", False)):
        terms = estimate_memory(shapes.G31B, tensors, options, (gpu,)).terms
        assert any(t.name == "weights, repacked" for t in terms) == expected

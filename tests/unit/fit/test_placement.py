"""Layers over GPUs and host: llama.cpp's rules on small examples, then the planner's choices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from g4cli.core.ggml import F16, GGMLType
from g4cli.core.inventory import text_tensors
from g4cli.core.units import GIB, MIB, MORE_LAYERS
from g4cli.estimate import HOST, Options, estimate_memory
from g4cli.estimate.placement import device_of, layer_devices
from g4cli.fit.context import largest_context, try_options
from g4cli.fit.memory import Memory, judge_estimate
from g4cli.fit.placement import place_layers
from g4cli.quant.recipes import Recipe, choose_types
from tests.support.builders import shapes

BIG = Memory("CUDA0", 80 * GIB, 78 * GIB)
HOST_64 = Memory(HOST, 64 * GIB, 60 * GIB)
A4B = choose_types(text_tensors(shapes.A4B), Recipe("q4_0"))
E2B = choose_types(text_tensors(shapes.E2B), Recipe("q4_0"))


@pytest.mark.parametrize(
    ("n_gpu_layers", "split", "expected"),
    [
        (0, (), "hhhhh"),
        (-1, (), "aaabb"),  # 5 layers with the output, halves: 0/5 1/5 2/5 | 3/5 4/5
        (99, (), "aaabb"),
        (1, (), "hhhha"),  # the output matrix goes first
        (3, (), "hhaab"),  # 0/3 and 1/3 lie below one half
        (-1, (3.0, 1.0), "aaaab"),
        (-1, (0.0, 1.0), "bbbbb"),
    ],
)
def test_layers_follow_llama_cpp(
    n_gpu_layers: int, split: tuple[float, ...], expected: str
) -> None:
    """upper_bound over the shares' borders of (layer - first)/n, as in load_tensors."""
    options = Options(512, n_gpu_layers=n_gpu_layers, tensor_split=split)
    found = layer_devices(4, options, ("a", "b"))
    assert "".join("h" if d == HOST else d for d in found) == expected


def test_layers_that_were_asked_for_stay_on_a_full_gpu() -> None:
    full = (HOST_64, Memory("CUDA0", 8 * GIB, 0))
    options = Options(4096, n_gpu_layers=10, fixed_layout=True)
    trial = try_options(shapes.E2B, E2B, options, full)
    assert trial.placement == "10 layers on the GPU: as requested"
    assert not trial.verdict.fits
    auto = try_options(shapes.E2B, E2B, Options(4096), full)
    assert auto.placement == "the GPU has no free memory: everything in host memory"
    assert auto.verdict.fits


def test_tensors_follow_their_layer() -> None:
    devices = (HOST, "a", "b")
    options = Options(512)
    assert device_of("token_embd.weight", ("a", "a", "a"), options) == HOST
    assert device_of("per_layer_token_embd.weight", ("a", "a", "a"), options) == HOST
    assert device_of("output_norm.weight", devices, options) == "b"
    assert device_of("output.weight", devices, options) == "b"
    assert device_of("blk.1.attn_q.weight", devices, options) == "a"
    assert device_of("per_layer_model_proj.weight", ("a", HOST, HOST), options) == "a"
    experts = "blk.1.ffn_gate_up_exps.weight"
    assert device_of(experts, devices, options) == "a"
    assert device_of(experts, devices, replace(options, n_cpu_moe=2)) == HOST
    assert device_of("blk.1.ffn_up.weight", devices, replace(options, n_cpu_moe=2)) == "a"


def test_every_weight_and_cell_lies_somewhere_once() -> None:
    here = estimate_memory(shapes.E2B, E2B, Options(8192, mmap=False))
    for n in (0, 1, 20, 36):
        there = estimate_memory(
            shapes.E2B, E2B, Options(8192, n_gpu_layers=n, mmap=False), ("CUDA0",)
        )
        assert there.kv_bytes == here.kv_bytes
        # Alignment apart: only the host's tensors are padded to 32 bytes.
        assert there.weights_bytes == pytest.approx(here.weights_bytes, abs=35 * 32)


@pytest.mark.parametrize("n_gpu_layers", [36, MORE_LAYERS])
def test_any_number_of_all_layers_needs_the_same(n_gpu_layers: int) -> None:
    """E2B has 35 layers and the output matrix; -1 means all."""
    every = estimate_memory(shapes.E2B, E2B, Options(8192, n_gpu_layers=-1), ("CUDA0",))
    given = Options(8192, n_gpu_layers=n_gpu_layers)
    assert estimate_memory(shapes.E2B, E2B, given, ("CUDA0",)) == every


def test_the_note_of_the_compute_buffer_says_what_the_host_computes() -> None:
    notes = {
        n: next(
            term.note
            for term in estimate_memory(
                shapes.E2B, E2B, Options(8192, n_gpu_layers=n), ("CUDA0",)
            ).terms
            if (term.name, term.device) == ("compute buffer", HOST)
        )
        for n in (20, 36)
    }
    assert notes == {20: "512 tokens at once", 36: "inputs of the GPU's layers"}


def test_the_embeddings_stay_on_the_host_and_are_copied_as_the_output() -> None:
    found = estimate_memory(shapes.E2B, E2B, Options(8192, n_gpu_layers=-1), ("CUDA0",))
    table = next(t for t in found.terms if t.name == "per-layer embeddings")
    assert table.device == HOST
    copy = next(t for t in found.terms if t.name == "output matrix")
    assert (copy.device, copy.nbytes) == ("CUDA0", 262144 * 1536 * 210 // 256)
    assert found.sum_bytes(group="kv", device=HOST) == 0


def test_without_gpus_nothing_moves() -> None:
    laid = place_layers(shapes.E2B, E2B, Options(4096), [HOST_64])
    assert laid.options == Options(4096)
    assert laid.reason == "no GPU: everything in host memory"


def test_all_layers_when_they_fit() -> None:
    laid = place_layers(shapes.E2B, E2B, Options(4096), [HOST_64, BIG])
    assert laid.options.n_gpu_layers == -1
    assert laid.reason == "all 35 layers on CUDA0 (78.0 GiB free)"


def test_experts_are_the_first_to_stay_behind() -> None:
    small = Memory("CUDA0", 12 * GIB, 12 * GIB)
    found = try_options(shapes.A4B, A4B, Options(8192), [HOST_64, small])
    assert found.verdict.fits
    assert found.options.n_gpu_layers == -1
    n = found.options.n_cpu_moe
    assert 0 < n < 30
    assert found.chat_option == "--gpu-layers auto"  # --cpu-moe would leave all experts behind
    assert f"the experts of the first {n} of 30 in host memory" in found.placement
    fewer = replace(found.options, n_cpu_moe=n - 1)
    assert not judge_estimate(estimate_memory(shapes.A4B, A4B, fewer, ("CUDA0",)), [small]).fits


@pytest.mark.parametrize("free", [40 * GIB, 3 * GIB, 2 * GIB])
def test_experts_that_must_stay_behind_do(free: int) -> None:
    card = Memory("CUDA0", free, free)
    options = Options(8192, n_cpu_moe=MORE_LAYERS)
    found = place_layers(shapes.A4B, A4B, options, [HOST_64, card])
    n = found.options.n_gpu_layers
    assert found.options.n_cpu_moe == MORE_LAYERS
    assert ", the experts of all layers in host memory" in found.reason
    assert found.chat_option == f"--gpu-layers {'auto' if n < 0 else n} --cpu-moe"
    some = replace(options, n_cpu_moe=12)
    reason = place_layers(shapes.A4B, A4B, some, [HOST_64, card]).reason
    assert "the experts of the first 12 of 30 in host memory" in reason


def test_as_many_layers_as_fit() -> None:
    small = Memory("CUDA0", GIB, GIB)
    found = try_options(shapes.E2B, E2B, Options(8192), [HOST_64, small])
    n = found.options.n_gpu_layers
    assert 0 < n < 36
    assert found.verdict.fits
    assert found.chat_option == f"--gpu-layers {n}"
    more = replace(found.options, n_gpu_layers=n + 1)
    assert not judge_estimate(estimate_memory(shapes.E2B, E2B, more, ("CUDA0",)), [small]).fits


def test_a_gpu_too_small_for_anything() -> None:
    none = Memory("CUDA0", 256 * MIB, 100 * MIB)
    laid = place_layers(shapes.E2B, E2B, Options(8192), [HOST_64, none])
    assert laid.options.n_gpu_layers == 0
    assert laid.reason.startswith("not one layer fits CUDA0")


def test_unified_memory_is_counted_once_and_against_the_host() -> None:
    host = Memory(HOST, 16 * GIB, 6 * GIB)
    metal = Memory("Metal", 12 * GIB, 12 * GIB, unified=True)
    weights = [_Weights(10 * GIB)]
    found = try_options(shapes.TINY, weights, Options(512), [host, metal])
    assert not found.verdict.fits  # 10 GiB fit the GPU's limit, but only 6 are free on the machine


def test_two_gpus_hold_what_one_cannot() -> None:
    one = Memory("CUDA0", 12 * GIB, 12 * GIB)
    two = Memory("CUDA1", 12 * GIB, 12 * GIB)
    g31b = choose_types(text_tensors(shapes.G31B), Recipe("q4_0"))
    alone = place_layers(shapes.G31B, g31b, Options(4096), [HOST_64, one])
    both = place_layers(shapes.G31B, g31b, Options(4096), [HOST_64, one, two])
    assert alone.options.n_gpu_layers > 0
    assert both.options.n_gpu_layers == -1  # all layers


@pytest.mark.slow
def test_more_memory_never_shortens_the_context() -> None:
    contexts = [
        largest_context(shapes.A4B, A4B, Options(1), [Memory(HOST, 64 * GIB, n * GIB)])
        for n in (14, 15, 16, 17, 18)
    ]
    assert contexts == sorted(contexts)
    assert contexts[0] < contexts[-1]


@dataclass(frozen=True)
class _Weights:
    nbytes: int
    name: str = "blk.0.ffn_up.weight"
    type: GGMLType = F16
    shape: tuple[int, ...] = (1,)

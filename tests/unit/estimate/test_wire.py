"""Bytes on the network: by the shape, as a counting proxy saw them, and what they take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from g4cli.core.units import MIB
from g4cli.estimate import HOST, Options, count_network_bytes, estimate_memory
from g4cli.estimate.compute import copied_inputs_bytes, is_pipelined
from tests.support.builders import shapes

CPU = "host"


def test_one_worker_with_all_layers() -> None:
    """Hidden state, positions, cells and mask of both kinds of attention, which token; logits."""
    options = Options(256)
    shape = shapes.G31B
    cost = count_network_bytes(shape, options, ("RPC0",) * 61, 123)
    assert cost is not None
    mask = 2 * 256
    sent = [4 * shape.n_embd, 4, 8, 8, mask, 8, 8, mask, 4]
    assert cost.token_bytes == (sum(sent) + len(sent) * 314 + 13 + 329 + 4 * shape.n_vocab)
    assert (cost.n_round_trips, cost.load_bytes) == (1, 123)


def test_each_border_costs_a_hidden_state_in_both_directions() -> None:
    one = count_network_bytes(shapes.G31B, Options(256), ("RPC0",) * 61, 0)
    two = count_network_bytes(shapes.G31B, Options(256), ("RPC0",) * 30 + ("RPC1",) * 31, 0)
    three = count_network_bytes(
        shapes.G31B, Options(256), ("RPC0",) * 20 + ("RPC1",) * 20 + ("RPC2",) * 21, 0
    )
    assert one is not None
    assert two is not None
    assert three is not None
    step = two.token_bytes - one.token_bytes
    assert step == three.token_bytes - two.token_bytes
    assert 2 * 4 * shapes.G31B.n_embd < step < 2 * 4 * shapes.G31B.n_embd + 6000
    assert three.n_round_trips == 3


def test_a_longer_context_has_longer_masks() -> None:
    short, long = (
        count_network_bytes(shapes.G31B, Options(n_ctx), ("RPC0",) * 61, 0)
        for n_ctx in (8192, 16384)
    )
    assert short is not None
    assert long is not None
    assert long.token_bytes - short.token_bytes == 2 * 8192
    assert long.prompt_bytes - short.prompt_bytes == 2 * 8192 * 512


def test_nothing_is_sent_without_workers() -> None:
    assert count_network_bytes(shapes.G31B, Options(256), (CPU,) * 61, 0) is None
    assert count_network_bytes(shapes.G31B, Options(256), ("CUDA0",) * 61, 0) is None


def test_no_figure_for_layers_that_should_stay_together() -> None:
    n_all = shapes.E2B.n_layer + 1
    divided = ("RPC0",) * 10 + ("RPC1",) * (n_all - 10)
    assert count_network_bytes(shapes.E2B, Options(256), divided, 0) is None
    assert count_network_bytes(shapes.E2B, Options(256), ("RPC0",) * n_all, 0) is not None


def test_the_time_is_that_of_bytes_and_round_trips() -> None:
    cost = count_network_bytes(shapes.G31B, Options(256), ("RPC0",) * 30 + ("RPC1",) * 31, 0)
    assert cost is not None
    assert cost.token_seconds(1e9, 1e-3) == pytest.approx(8e-9 * cost.token_bytes + 2e-3)


@pytest.mark.parametrize(
    ("n_ctx", "compute", "first", "second"),
    [(8192, 191910380, 254877368, 298917560), (32768, 217076204, 355540664, 399580856)],
)
def test_buffers_of_a_pipeline_are_llama_cpps(
    n_ctx: int, compute: int, first: int, second: int
) -> None:
    """llama.cpp's log for 31B in Q8_0 over two workers, 30 layers and 31; rounded to 0.01 MiB."""
    options = Options(n_ctx, n_gpu_layers=-1)
    extra = [copied_inputs_bytes(shapes.G31B, options, i, is_pipelined=True) for i in (0, 1)]
    assert abs(compute + extra[0] - first) < 40_000
    assert abs(compute + extra[1] - second) < 40_000


@pytest.mark.parametrize(
    ("options", "host", "worker"),
    [
        (Options(4096, n_cpu_moe=1), 93.52, 97.51),
        (Options(4096, n_cpu_moe=30), 93.52, 64.51),
        (Options(32768, n_cpu_moe=1), 121.52, 140.51),
        (Options(32768, n_cpu_moe=30), 121.52, 96.51),
        (Options(262144, n_ubatch=2048, n_cpu_moe=15), 1388.08, 1464.04),
    ],
)
def test_buffers_with_experts_on_the_host(options: Options, host: float, worker: float) -> None:
    """llama.cpp's plans for 26B in Q4_0 with all layers on a worker, in MiB: bounds from above.

    The host computes what is between experts, beside the inputs of all layers.
    """
    found = estimate_memory(shapes.A4B, (), replace(options, n_gpu_layers=-1), ("RPC0",))
    for device, mib in ((HOST, host), ("RPC0", worker)):
        (nbytes,) = (
            t.nbytes for t in found.terms if t.name == "compute buffer" and t.device == device
        )
        assert mib * MIB - 6000 <= nbytes
    (without,) = (
        t.nbytes
        for t in estimate_memory(shapes.A4B, (), Options(4096, n_gpu_layers=-1), ("RPC0",)).terms
        if t.name == "compute buffer" and t.device == HOST
    )
    assert abs(without - 16.52 * MIB) < 6000


def test_a_pipeline_needs_all_layers_on_several_devices() -> None:
    assert is_pipelined(shapes.G31B, Options(512, n_gpu_layers=-1), 2)
    assert is_pipelined(shapes.G31B, Options(512, n_gpu_layers=61), 2)
    assert not is_pipelined(shapes.G31B, Options(512, n_gpu_layers=60), 2)
    assert not is_pipelined(shapes.G31B, Options(512, n_gpu_layers=-1), 1)
    assert not is_pipelined(shapes.G31B, Options(512, n_gpu_layers=-1, n_cpu_moe=1), 2)

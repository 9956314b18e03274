"""Decide which layers are offloaded: all, all without their experts, or as many as fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from g4cli.core.shape import Shape
from g4cli.core.units import size_text
from g4cli.estimate import HOST, Options, Tensor, estimate_memory, is_remote
from g4cli.fit.memory import Memory, judge_estimate
from g4cli.fit.placement_result import Placement
from g4cli.fit.workers import place_on_workers


def place_layers(
    shape: Shape, tensors: Sequence[Tensor], options: Options, memories: Sequence[Memory]
) -> Placement:
    """Return the placement that fits the GPUs and keeps the most work on them.

    The experts of a mixture are the first to stay on the host: each token uses 8 of 128, so that
    they cost the least there. Without a GPU, or if not even one layer fits, everything stays on the
    host.
    """
    gpus = [m for m in memories if m.name != HOST]
    if not gpus:
        return Placement(options, "no GPU: everything in host memory")
    if any(is_remote(m.name) for m in gpus):
        return place_on_workers(shape, tensors, options, memories)
    usable = tuple(float(m.usable_bytes) for m in gpus)
    if any(usable):
        # As llama.cpp does by default: layers in proportion to the free memory of the GPUs.
        options = replace(options, tensor_split=options.tensor_split or usable)
    elif not options.fixed_layout:
        return Placement(options, "the GPU has no free memory: everything in host memory")
    moe, cpu_moe = "", ""
    if options.n_cpu_moe and shape.n_expert:
        which = f"the first {options.n_cpu_moe} of {shape.n_layer}"
        if options.n_cpu_moe >= shape.n_layer:
            which, cpu_moe = "all layers", " --cpu-moe"
        moe = f", the experts of {which} in host memory"
    if options.fixed_layout:
        is_all = not 0 <= options.n_gpu_layers <= shape.n_layer
        layers = "all" if is_all else str(options.n_gpu_layers)
        return Placement(options, f"{layers} layers on the GPU{moe}: as requested")
    names = tuple(m.name for m in gpus)

    def fits(trial: Options) -> bool:
        return judge_estimate(estimate_memory(shape, tensors, trial, names), gpus).fits

    on = " and ".join(f"{m.label} ({size_text(m.available_bytes)} free)" for m in gpus)
    everything = replace(options, n_gpu_layers=-1)
    if fits(everything):
        reason = f"all {shape.n_layer} layers on {on}{moe}"
        return Placement(everything, reason, f"--gpu-layers auto{cpu_moe}")
    if shape.n_expert and not moe and fits(replace(everything, n_cpu_moe=shape.n_layer)):
        n = _find_least(shape.n_layer, lambda n: fits(replace(everything, n_cpu_moe=n)))
        reason = (
            f"all layers on {on}, the experts of the first {n} of {shape.n_layer} in host memory"
        )
        return Placement(replace(everything, n_cpu_moe=n), reason, "--gpu-layers auto")
    # llama.cpp counts the output matrix as one more layer.
    n_all = shape.n_layer + 1
    n_left = _find_least(n_all, lambda n: fits(replace(options, n_gpu_layers=n_all - n)))
    n = n_all - n_left
    if not n:
        reason = f"not one layer fits {on}: everything in host memory"
        return Placement(options, reason, "--gpu-layers 0")
    reason = f"the last {n} of {n_all} layers on {on}{moe}, the rest in host memory"
    return Placement(replace(options, n_gpu_layers=n), reason, f"--gpu-layers {n}{cpu_moe}")


def _find_least(high: int, fits: Callable[[int], bool]) -> int:
    """Return the least n from 0 to `high` for which `fits(n)`, by binary search.

    `fits` must hold for `high`, and for every n above one for which it holds.
    """
    low = -1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high

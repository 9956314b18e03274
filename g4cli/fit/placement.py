"""Which layers go to the GPUs: all if they fit, experts to the host first, then as many layers as fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from g4cli.core.shape import Shape
from g4cli.core.units import size_text
from g4cli.estimate import HOST, Options, Tensor, estimate
from g4cli.fit.memory import Memory, verdict


@dataclass(frozen=True, slots=True)
class Placement:
    """Options with the layers laid out, the sentence that says so, and the option that chat takes for it."""

    options: Options
    reason: str
    chat_option: str = ""


def place(
    shape: Shape, tensors: Sequence[Tensor], options: Options, memories: Sequence[Memory]
) -> Placement:
    """Return the layout that keeps the most work on the GPUs and fits them; everything on the host if none.

    Experts of a mixture are the first to stay on the host: each token visits 8 of 128, so they lose least.
    """
    gpus = [m for m in memories if m.name != HOST]
    if not gpus:
        return Placement(options, "no GPU: everything in host memory")
    usable = [float(m.usable_bytes) for m in gpus]
    if not any(usable):
        return Placement(options, "the GPU has no free memory: everything in host memory")
    options = replace(options, tensor_split=options.tensor_split or tuple(usable))
    if options.fixed_layout:
        layers = "all" if options.n_gpu_layers < 0 else str(options.n_gpu_layers)
        moe = f", experts of {options.n_cpu_moe} layers in host memory" if options.n_cpu_moe else ""
        return Placement(options, f"{layers} layers on the GPU{moe}: as asked for")
    names = tuple(m.name for m in gpus)

    def fits(trial: Options) -> bool:
        return verdict(estimate(shape, tensors, trial, names), gpus).fits

    on = " and ".join(f"{m.name} ({size_text(m.available_bytes)} free)" for m in gpus)
    everything = replace(options, n_gpu_layers=-1)
    if fits(everything):
        return Placement(everything, f"all {shape.n_layer} layers on {on}", "--gpu-layers auto")
    if shape.n_expert and fits(replace(everything, n_cpu_moe=shape.n_layer)):
        n = _least(shape.n_layer, lambda n: fits(replace(everything, n_cpu_moe=n)))
        reason = (
            f"all layers on {on}, the experts of the first {n} of {shape.n_layer} in host memory"
        )
        return Placement(replace(everything, n_cpu_moe=n), reason, "--cpu-moe")
    left = _least(
        shape.n_layer + 1, lambda n: fits(replace(options, n_gpu_layers=shape.n_layer + 1 - n))
    )
    n = shape.n_layer + 1 - left
    if not n:
        return Placement(
            options, f"not one layer fits {on}: everything in host memory", "--gpu-layers 0"
        )
    reason = f"the last {n} of {shape.n_layer + 1} layers on {on}, the rest in host memory"
    return Placement(replace(options, n_gpu_layers=n), reason, f"--gpu-layers {n}")


def _least(high: int, fits: Callable[[int], bool]) -> int:
    """Return the least n in 0..high that fits; `high` is taken to fit, and all between follow suit."""
    low = -1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high

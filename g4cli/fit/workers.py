"""Divide the layers of a network between the workers of other machines, by their memory.

llama.cpp numbers the layers from 0, the output matrix behind the last one, and gives them to the
devices in order: the first layers to the host, the rest to the workers. As many layers as fit go to
the workers, which may have GPUs; each worker gets so many that all are filled to the same part of
their memory. The machine that runs the chat keeps the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from g4cli.core.inventory import OUTPUT, TOKEN_EMBD
from g4cli.core.shape import Shape
from g4cli.core.units import size_text
from g4cli.estimate import (
    HOST,
    Options,
    Tensor,
    estimate_memory,
    is_remote,
    keeps_layers_together,
    layer_kv_bytes,
)
from g4cli.estimate.placement import device_of, layer_devices
from g4cli.fit.memory import Memory, judge_estimate
from g4cli.fit.placement_result import Placement

_STEPS = 40  # of the binary search for the part of the memory that is filled: 2^-40 is exact enough


def place_on_workers(
    shape: Shape, tensors: Sequence[Tensor], options: Options, memories: Sequence[Memory]
) -> Placement:
    """Return the placement of the layers on the devices of `memories` that are not the host.

    With `fixed_layout` the number of layers stays as it is in `options`.
    """
    devices = [m for m in memories if m.name != HOST]
    names = tuple(m.name for m in devices)
    n_all = shape.n_layer + 1
    stays_whole = keeps_layers_together(shape) and not options.tensor_split
    costs = _list_layer_bytes(shape, tensors, options)
    room = _list_room(shape, options, devices)

    def divide(n_layers: int) -> Options | None:
        split = options.tensor_split
        if not split:
            counts = _divide_layers(costs[n_all - n_layers :], room, together=stays_whole)
            if counts is None and not options.fixed_layout:
                return None
            split = tuple(map(float, counts or [m.usable_bytes for m in devices]))
        n_gpu_layers = -1 if n_layers == n_all else n_layers
        return replace(options, n_gpu_layers=n_gpu_layers, tensor_split=split if any(split) else ())

    def fits(trial: Options) -> bool:
        return judge_estimate(estimate_memory(shape, tensors, trial, names), devices).fits

    if options.fixed_layout:
        n_layers = n_all if options.n_gpu_layers < 0 else min(options.n_gpu_layers, n_all)
        return _make_placement(divide(n_layers) or options, devices, shape.n_layer)
    for n_layers in [n_all] if stays_whole else range(n_all, 0, -1):
        placed = divide(n_layers)
        if placed is not None and fits(placed):
            return _make_placement(placed, devices, shape.n_layer)
    reason = "no worker has room for a layer: everything in host memory"
    if stays_whole:
        reason = (
            "no worker has room for all layers, which this model has to keep together: everything "
            "in host memory"
        )
    return Placement(replace(options, n_gpu_layers=0), reason, "--gpu-layers 0")


def _make_placement(placed: Options, devices: Sequence[Memory], n_layer: int) -> Placement:
    """Return the placement with its reason: how many layers each device gets."""
    counts = Counter(layer_devices(n_layer, placed, tuple(m.name for m in devices)))
    parts = [
        f"{counts[memory.name]} on {memory.label} ({size_text(memory.available_bytes)} free)"
        for memory in devices
        if counts[memory.name]
    ]
    if counts[HOST]:
        parts.insert(0, f"the first {counts[HOST]} in host memory")
    layers = "auto" if not counts[HOST] else str(n_layer + 1 - counts[HOST])
    option = f"--gpu-layers {layers}"
    if placed.tensor_split:
        option += f" --tensor-split {','.join(f'{n:g}' for n in placed.tensor_split)}"
    reason = f"of {n_layer + 1} layers, the output among them: {', '.join(parts)}"
    return Placement(placed, reason, option)


def _divide_layers(
    costs: Sequence[int], room: Sequence[int], *, together: bool
) -> list[int] | None:
    """Return how many of the layers with these `costs` each device gets; None if they do not fit.

    `together`: one device gets all.
    """
    units = [sum(costs)] if together else costs
    best = _fill_devices(units, room, 1.0)
    if best is None:
        return None
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        counts = _fill_devices(units, room, middle)
        if counts is None:
            low = middle
        else:
            best, high = counts, middle
    return [n * len(costs) for n in best] if together else best


def _list_room(shape: Shape, options: Options, devices: Sequence[Memory]) -> list[int]:
    """Return the bytes that each device has for weights and KV cache, beside its buffers."""
    room = []
    for number, memory in enumerate(devices):
        split = tuple(float(i == number) for i in range(len(devices)))
        alone = replace(options, n_gpu_layers=-1, tensor_split=split)
        needed = estimate_memory(shape, (), alone, tuple(m.name for m in devices))
        buffers = needed.sum_bytes(group="compute", device=memory.name)
        room.append(max(0, memory.usable_bytes - buffers))
    return room


def _fill_devices(costs: Sequence[int], room: Sequence[int], part: float) -> list[int] | None:
    """Return how many units with these `costs`, in order, each device takes in `part` of its room.

    None if some are left over.
    """
    counts = []
    sums = [0, *accumulate(costs)]
    n_placed = 0
    for n_bytes in room:
        first = n_placed
        while n_placed < len(costs) and sums[n_placed + 1] - sums[first] <= part * n_bytes:
            n_placed += 1
        counts.append(n_placed - first)
    return counts if n_placed == len(costs) else None


def _list_layer_bytes(shape: Shape, tensors: Sequence[Tensor], options: Options) -> list[int]:
    """Return the bytes of weights and KV cache of each layer and, last, of the output."""
    names = tuple(f"RPC{i}" for i in range(shape.n_layer + 1))  # each layer on a device of its own
    costs = dict.fromkeys(names, 0)
    for tensor in tensors:
        device = device_of(tensor.name, names, options)
        if is_remote(device):
            costs[device] += tensor.nbytes
    if not any(t.name == OUTPUT for t in tensors):
        costs[names[-1]] += sum(t.nbytes for t in tensors if t.name == TOKEN_EMBD)
    for layer in range(shape.n_layer):
        costs[names[layer]] += layer_kv_bytes(shape, options, layer)
    costs[names[0]] += max(0, options.unlisted_weight_bytes)
    return list(costs.values())

"""Decide which layers of a network are on which device.

Without workers the layers go to the GPUs of this machine: all, all without their experts, or as
many as fit.

With workers (`--rpc`) the layers are divided by the memory of the other machines. llama.cpp numbers
the layers from 0, the output matrix behind the last one, and gives them to the devices in order:
the first layers to the host, the rest to the workers. As many layers as fit go to the workers,
which may have GPUs; each worker gets so many that all are filled to the same part of their memory.
The machine that runs the chat keeps the rest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from g4cli.core.gguf_header import TensorSpec
from g4cli.core.inventory import OUTPUT, TOKEN_EMBD
from g4cli.core.shape import Shape
from g4cli.core.units import size_text
from g4cli.estimate import (
    HOST,
    Options,
    estimate_memory,
    is_remote,
    keeps_layers_together,
    layer_kv_bytes,
)
from g4cli.estimate.placement import device_of, layer_devices, offloads_all
from g4cli.fit.memory import Memory, judge_estimate

_PARTS: Final = 1 << 40  # of the memory, in the search for the one that is filled: exact enough


@dataclass(frozen=True, slots=True)
class Placement:
    """Options with the layers placed, in words where they are, and the option of chat for it."""

    options: Options
    reason: str
    chat_option: str = ""


def place_layers(
    shape: Shape, tensors: Sequence[TensorSpec], options: Options, memories: Sequence[Memory]
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
        return _place_on_workers(shape, tensors, options, memories)
    usable = tuple(float(m.usable_bytes) for m in gpus)
    if any(usable):
        # As llama.cpp does by default: layers in proportion to the free memory of the GPUs.
        options = replace(options, tensor_split=options.tensor_split or usable)
    elif not options.fixed_layout:
        return Placement(options, "the GPU has no free memory: everything in host memory")
    # What --cpu-moe or --n-cpu-moe asked for: the end of the reason, and of the option of chat.
    moe, cpu_moe = "", ""
    if options.n_cpu_moe and shape.n_expert:
        which = f"the first {options.n_cpu_moe} of {shape.n_layer}"
        if options.n_cpu_moe >= shape.n_layer:
            which, cpu_moe = "all layers", " --cpu-moe"
        moe = f", the experts of {which} in host memory"
    if options.fixed_layout:
        layers = "all" if offloads_all(shape.n_layer, options) else str(options.n_gpu_layers)
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
        n = bisect_left(
            range(shape.n_layer), True, key=lambda n: fits(replace(everything, n_cpu_moe=n))
        )
        reason = (
            f"all layers on {on}, the experts of the first {n} of {shape.n_layer} in host memory"
        )
        return Placement(replace(everything, n_cpu_moe=n), reason, "--gpu-layers auto")
    # llama.cpp counts the output matrix as one more layer.
    n_all = shape.n_layer + 1
    n_left = bisect_left(
        range(n_all), True, key=lambda n: fits(replace(options, n_gpu_layers=n_all - n))
    )
    n = n_all - n_left
    if not n:
        reason = f"not one layer fits {on}: everything in host memory"
        return Placement(options, reason, "--gpu-layers 0")
    reason = f"the last {n} of {n_all} layers on {on}{moe}, the rest in host memory"
    return Placement(replace(options, n_gpu_layers=n), reason, f"--gpu-layers {n}{cpu_moe}")


def _place_on_workers(
    shape: Shape, tensors: Sequence[TensorSpec], options: Options, memories: Sequence[Memory]
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
        """Return the options with the last `n_layers` divided, None if they do not fit."""
        split = options.tensor_split
        if not split:
            counts = _divide_layers(costs[n_all - n_layers :], room, together=stays_whole)
            if counts is None and not options.fixed_layout:
                return None
            # Layers that were asked for but do not fit are divided too: the verdict tells.
            split = tuple(map(float, counts or [m.usable_bytes for m in devices]))
        n_gpu_layers = -1 if n_layers == n_all else n_layers
        return replace(options, n_gpu_layers=n_gpu_layers, tensor_split=split if any(split) else ())

    def fits(trial: Options) -> bool:
        return judge_estimate(estimate_memory(shape, tensors, trial, names), devices).fits

    if options.fixed_layout:
        n_layers = n_all if offloads_all(shape.n_layer, options) else options.n_gpu_layers
        return _make_placement(divide(n_layers) or options, devices, shape.n_layer)
    for n_layers in [n_all] if stays_whole else range(n_all, 0, -1):
        placed = divide(n_layers)
        if placed is not None and fits(placed):
            return _make_placement(placed, devices, shape.n_layer)
    needed = "all layers, which this model has to keep together" if stays_whole else "a layer"
    reason = f"no worker has room for {needed}: everything in host memory"
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
    if _fill_devices(units, room, 1.0) is None:
        return None
    # The least part of all rooms that is enough: it fills all devices alike.
    part = bisect_left(
        range(_PARTS), True, key=lambda n: _fill_devices(units, room, n / _PARTS) is not None
    )
    counts = _fill_devices(units, room, part / _PARTS)
    return [n * len(costs) for n in counts] if counts and together else counts


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

    A unit is what must not be divided: a layer, or all layers. None if some are left over.
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


def _list_layer_bytes(shape: Shape, tensors: Sequence[TensorSpec], options: Options) -> list[int]:
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
    # As in weights.py, what no tensor lists counts with the first layer.
    costs[names[0]] += max(0, options.unlisted_weight_bytes)
    return list(costs.values())

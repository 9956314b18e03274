"""Compute the device of each layer and tensor, as llama.cpp chooses it.

Source: get_layer_buft_list in llama_model_base::load_tensors, src/llama-model.cpp, and the table of
layers in src/llama-arch.cpp (llm_tensor_info), llama.cpp@0c1e57098.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from g4cli.core.inventory import OUTPUT, PER_LAYER_TOKEN_EMBD, TOKEN_EMBD
from g4cli.core.shape import Shape
from g4cli.estimate.options import Options
from g4cli.estimate.result import HOST

_BLOCK: Final = re.compile(r"blk\.(\d+)\.")
_EXPERTS: Final = re.compile(r"\.ffn_(up|down|gate|gate_up)_exps\.")


def is_expert(name: str) -> bool:
    """Return whether the tensor `name` holds a matrix of all experts of a layer."""
    return bool(_EXPERTS.search(name))


def offloads_all(n_layer: int, options: Options) -> bool:
    """Return whether the options offload all layers and the output matrix."""
    return not 0 <= options.n_gpu_layers <= n_layer


def keeps_experts(shape: Shape, options: Options) -> bool:
    """Return whether the options keep experts in host memory, whose layers may be offloaded."""
    return bool(shape.n_expert and options.n_cpu_moe)


def layer_devices(n_layer: int, options: Options, gpus: Sequence[str]) -> tuple[str, ...]:
    """Return the device of each layer and, last, that of the output matrix.

    The last `options.n_gpu_layers` go to the GPUs, in the order of `gpus` and in the proportions of
    `options.tensor_split` (equal if it is empty; llama.cpp itself then uses the free memory).
    """
    n_offloaded = n_layer + 1 if offloads_all(n_layer, options) else options.n_gpu_layers
    if not gpus or not n_offloaded:
        return (HOST,) * (n_layer + 1)
    first = n_layer + 1 - n_offloaded
    sums = list(accumulate(options.tensor_split or (1.0,) * len(gpus)))
    borders = [total / sums[-1] for total in sums]  # where each GPU's part ends, 0 to 1
    return (HOST,) * first + tuple(
        gpus[min(bisect_right(borders, i / n_offloaded), len(gpus) - 1)] for i in range(n_offloaded)
    )


def device_of(name: str, devices: Sequence[str], options: Options) -> str:
    """Return the device of the tensor `name`; `devices` are those of `layer_devices`.

    The embeddings are never offloaded: a token needs only one row of them.
    """
    if name in (TOKEN_EMBD, PER_LAYER_TOKEN_EMBD):
        return HOST
    if name == OUTPUT or name.startswith("output_norm"):
        return devices[-1]
    match = _BLOCK.match(name)
    if match is None:
        # rope_freqs and the projection of the per-layer embeddings go with the first layer
        return devices[0]
    layer = int(match[1])
    if layer < options.n_cpu_moe and is_expert(name):
        return HOST
    # A damaged file may have tensors of more layers than its key says.
    return devices[layer] if layer < len(devices) - 1 else HOST

"""Count the bytes of weights that a device reads to compute one token.

In decoding every weight is used once a token, so that the speed is the rate at which a device reads
them. Exceptions: of the embeddings one row is read, though a network without an output matrix of
its own reads them all as that matrix; of the experts of a mixture, those that a token is sent to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from g4cli.core.gguf_header import TensorSpec
from g4cli.core.inventory import OUTPUT, PER_LAYER_TOKEN_EMBD, TOKEN_EMBD
from g4cli.core.shape import Shape
from g4cli.estimate.options import Options
from g4cli.estimate.placement import device_of, is_expert, layer_devices


def count_read_bytes(
    shape: Shape, tensors: Sequence[TensorSpec], options: Options, gpus: Sequence[str] = ()
) -> dict[tuple[str, str], int]:
    """Return the bytes read for a token in an empty context, by device and type of the weights.

    `options` hold the placement of the layers on `gpus`. Bytes that no tensor lists
    (Options.unlisted_weight_bytes) count with the type that has the most.
    """
    devices = layer_devices(shape.n_layer, options, gpus)
    has_output = any(t.name == OUTPUT for t in tensors)
    read: Counter[tuple[str, str]] = Counter()
    for tensor in tensors:
        device = device_of(tensor.name, devices, options)
        n_bytes = tensor.nbytes
        if tensor.name == PER_LAYER_TOKEN_EMBD or (tensor.name == TOKEN_EMBD and has_output):
            continue
        if tensor.name == TOKEN_EMBD:
            device = devices[-1]
        elif is_expert(tensor.name) and shape.n_expert:
            n_bytes = n_bytes * shape.n_expert_used // shape.n_expert
        read[device, tensor.type.name] += n_bytes
    if read and options.unlisted_weight_bytes:
        # Of these bytes, too, a mixture of experts reads only a part: the same as of the others.
        largest = max(read, key=lambda key: read[key])
        listed_bytes = sum(t.nbytes for t in tensors)
        share = sum(read.values()) / max(1, listed_bytes)
        read[largest] = max(0, read[largest] + int(options.unlisted_weight_bytes * share))
    return dict(read)

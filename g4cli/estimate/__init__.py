"""Compute how much memory a Gemma 4 network needs, term by term, from its shape.

Neither a file nor the state of this machine is read.

Theory. Before the first token llama.cpp allocates memory for several purposes. Each is a `Term` on
one device, and each follows from the shape of the network and the options of the run:

* *Weights* (weights.py): the bytes of the tensors, once as pages of the mapped file or padded
  without mmap, and again for copies: repacked for the CPU, or offloaded (placement.py says which).
* *KV cache* (kv.py): cells times the width of K and V, per layer. Full-attention layers have a cell
  for each token of the context, sliding-window layers only for a window and one ubatch.
* *Compute buffer* (graph.py, network.py): all intermediate results of one ubatch share a buffer, in
  which blocks are reused. Its size depends on the order of all operations, so the graph is built as
  llama.cpp builds it, and ggml's allocator is simulated on it. encoders.py and draft.py do the same
  for the encoders of images and audio (media.py) and for the draft model.
* *Output buffer, work buffer, vocabulary* (compute.py), and the processes themselves: formulas, and
  two measured constants.

Terms of the group "cache" are pages that the operating system frees when memory is short, those of
the group "disk" never leave the disk: neither counts as needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from g4cli.core.gguf_header import TensorSpec
from g4cli.core.shape import Shape
from g4cli.core.units import MIB, count_text, size_text
from g4cli.estimate.compute import (
    GPU_ALIGNMENT,
    compute_bytes,
    copied_inputs_bytes,
    inputs_bytes,
    is_pipelined,
    output_bytes,
    vocabulary_bytes,
    work_buffer_bytes,
)
from g4cli.estimate.draft import draft_terms
from g4cli.estimate.kv import kv_bytes, kv_cells, layer_kv_bytes
from g4cli.estimate.media import DEFAULT_IMAGE_TOKENS, media_bytes
from g4cli.estimate.options import (
    CTX_PAD,
    MIN_DRAFTING_BYTES,
    N_DRAFT,
    Draft,
    Options,
    check_options,
    kv_type,
)
from g4cli.estimate.placement import keeps_experts, layer_devices, offloads_all
from g4cli.estimate.result import HOST, Estimate, Term, is_remote
from g4cli.estimate.weights import list_sent_tensors, repacked_types, weight_terms
from g4cli.estimate.wire import NetworkCost, count_network_bytes, keeps_layers_together

__all__ = [
    "CTX_PAD",
    "DEFAULT_IMAGE_TOKENS",
    "HOST",
    "MIN_DRAFTING_BYTES",
    "N_DRAFT",
    "Draft",
    "Estimate",
    "NetworkCost",
    "Options",
    "Term",
    "check_options",
    "count_network_bytes",
    "estimate_memory",
    "is_remote",
    "keeps_layers_together",
    "kv_bytes",
    "kv_cells",
    "kv_type",
    "layer_kv_bytes",
    "media_bytes",
    "repacked_types",
]


CHECKPOINTS_BYTES: Final = 256 * MIB
"""Most bytes of window checkpoints in `g4 chat`, a choice; if one is larger, there are none."""

# Measured by tests/bench/resident.py: the process that holds the conversation, and the worker
# without its model and vocabulary.
_FRONT_BYTES: Final = 54 * MIB
_WORKER_BYTES: Final = 38 * MIB


def estimate_memory(
    shape: Shape, tensors: Sequence[TensorSpec], options: Options, gpus: Sequence[str] = ()
) -> Estimate:
    """Return the memory that a run of `g4 chat` with `options` needs on the host and on `gpus`.

    `gpus` are ggml's names of devices, workers included, in the order in which they get layers.

    On the CPU, tests compare it with llama.cpp's figures to the byte. On GPUs, weights and KV cache
    follow llama.cpp's rules of placement, and the compute buffer is an upper bound: that of the
    whole network. Raises UsageError for options, and BadFile for a shape, that llama.cpp would
    refuse.
    """
    check_options(shape, options)
    devices = layer_devices(shape.n_layer, options, gpus)
    used = tuple(dict.fromkeys(d for d in devices if d != HOST))
    terms = weight_terms(tensors, options, devices)
    for device in dict.fromkeys((HOST, *devices)):
        terms += _kv_terms(shape, options, devices, device)
    terms += _compute_terms(shape, options, used)
    work = work_buffer_bytes(shape, options)
    process = _FRONT_BYTES + _WORKER_BYTES + vocabulary_bytes(shape.n_vocab)
    terms += [
        Term("kernel work buffer", HOST, "process", work, "activations as the kernels read them"),
        Term("process", HOST, "process", process, "Python, libraries, vocabulary"),
    ]
    local = [device for device in used if not is_remote(device)]
    terms += _media_terms(options, local[0] if local else HOST)
    terms += _transfer_terms(tensors, options, devices, terms)
    terms += draft_terms(shape, options, used)
    checkpoints = kv_bytes(shape, options)[1] * options.n_checkpoints
    if 0 < checkpoints <= CHECKPOINTS_BYTES:
        # A chat adds checkpoints while it runs; the estimate counts those that it always has.
        most = size_text(CHECKPOINTS_BYTES)
        note = f"{options.n_checkpoints} kept; up to {most} in a long chat"
        terms.append(Term("window checkpoints", HOST, "process", checkpoints, note))
    return Estimate(tuple(terms))


def _kv_terms(shape: Shape, options: Options, devices: Sequence[str], device: str) -> list[Term]:
    cells = kv_cells(shape, options)
    layers = [layer for layer in range(shape.n_layer) if devices[layer] == device]
    full, sliding = kv_bytes(shape, options, layers)
    terms = (
        Term("KV cache, full", device, "kv", full, f"{cells.full:,} tokens"),
        Term("KV cache, sliding", device, "kv", sliding, f"{cells.swa:,} tokens"),
    )
    return [t for t in terms if t.nbytes]


def _compute_terms(shape: Shape, options: Options, gpus: Sequence[str]) -> list[Term]:
    """Return the compute buffer of each device, and the output buffer."""
    note = f"{count_text(options.ubatch, 'token')} at once"
    if options.outputs > 1:
        note += f", logits of {options.outputs:,}"
    output = Term("output buffer", HOST, "compute", output_bytes(shape, options))
    # If all layers are on GPUs, the host only prepares their inputs, unless it has experts.
    has_experts = keeps_experts(shape, options)
    if gpus and offloads_all(shape.n_layer, options) and not has_experts:
        owners = "workers'" if any(is_remote(gpu) for gpu in gpus) else "GPU's"
        host, host_note = inputs_bytes(shape, options), f"inputs of the {owners} layers"
    else:
        host, host_note = compute_bytes(shape, options), note
    pipelined = is_pipelined(shape, options, len(gpus))
    if pipelined:
        host += copied_inputs_bytes(shape, options, 0, is_pipelined=True)
    terms = [Term("compute buffer", HOST, "compute", host, host_note)]
    for number, gpu in enumerate(gpus):
        nbytes = compute_bytes(shape, options, GPU_ALIGNMENT)
        if pipelined or is_remote(gpu) or has_experts:
            nbytes += copied_inputs_bytes(shape, options, number, is_pipelined=pipelined)
        terms.append(Term("compute buffer", gpu, "compute", nbytes, note))
    return [*terms, output]


def _transfer_terms(
    tensors: Sequence[TensorSpec], options: Options, devices: Sequence[str], terms: Sequence[Term]
) -> list[Term]:
    """Return what loading needs beyond the rest, where weights are sent to workers.

    Both sides hold a whole tensor for the time of its transfer (serialize_set_tensor and recv_msg,
    ggml/src/ggml-rpc/ggml-rpc.cpp, llama.cpp@0c1e57098). KV cache and compute buffers are made
    after that.
    """
    largest: dict[str, int] = {}
    for worker, nbytes in list_sent_tensors(tensors, options, devices):
        for device in (worker, HOST):
            largest[device] = max(largest.get(device, 0), nbytes)
    later = {
        device: sum(t.nbytes for t in terms if t.device == device and t.group in ("kv", "compute"))
        for device in largest
    }
    note = "the largest matrix, while the model is sent"
    return [
        Term("transfer buffer", device, "process", nbytes - later[device], note)
        for device, nbytes in largest.items()
        if nbytes > later[device]
    ]


def _media_terms(options: Options, device: str) -> list[Term]:
    """Return the terms of the encoder of images and audio, which is on `device` as a whole."""
    media = options.media
    if media is None:
        return []
    terms = (
        Term("encoder", device, "weights", media.weights, "for images and audio"),
        Term("image compute buffer", device, "compute", media.image, "from the first image on"),
        Term("image work buffer", HOST, "process", media.work, "pixels and kernel work buffer"),
        Term("audio compute buffer", device, "compute", media.audio, "from the first audio on"),
    )
    return [term for term in terms if term.nbytes]

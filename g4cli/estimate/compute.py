"""Memory of a context apart from its KV cache: compute, output and work buffers, vocabulary."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from g4cli.core.shape import Shape
from g4cli.estimate.graph import CPU_ALIGNMENT, graph_bytes
from g4cli.estimate.network import build_network
from g4cli.estimate.options import Options
from g4cli.estimate.placement import keeps_experts, offloads_all

GPU_ALIGNMENT: Final = 128
"""ggml_backend_cuda_buffer_type_get_alignment, ggml/src/ggml-cuda/ggml-cuda.cu."""

_SCHED_COPIES: Final = 4  # GGML_SCHED_MAX_COPIES, ggml/src/ggml-backend.cpp
_F32_BYTES: Final = 4
_BF16_BYTES: Final = 2
# Measured by tests/bench/resident.py: a vocabulary alone.
_VOCABULARY_BYTES_PER_TOKEN: Final = 390


def compute_bytes(shape: Shape, options: Options, alignment: int = CPU_ALIGNMENT) -> int:
    """Return the bytes of the compute buffer for the largest ubatch, with all layers on one device.

    Source: llama_context::sched_reserve, src/llama-context.cpp, llama.cpp@0c1e57098.
    """
    return _compute_bytes(shape, options.select_graph_options(), alignment)


@lru_cache(maxsize=256)
def _compute_bytes(shape: Shape, options: Options, alignment: int) -> int:
    return graph_bytes(build_network(shape, options), alignment)


def inputs_bytes(shape: Shape, options: Options) -> int:
    """Return the bytes of the host's compute buffer if all layers are offloaded.

    It holds the inputs of the graph, the embeddings, the per-layer inputs and the projected
    embeddings to which these are added.
    """
    graph = build_network(shape, options)
    inputs = sum(leaf.nbytes for leaf in graph.leaves)
    per_layer = 2 * shape.n_embd_per_layer * shape.n_layer
    return inputs + _F32_BYTES * options.ubatch * (shape.n_embd + per_layer)


def is_pipelined(shape: Shape, options: Options, n_devices: int) -> bool:
    """Return whether llama.cpp computes several ubatches at once, each on another device.

    It does if all layers and the output are on more than one GPU or worker. Source: the
    constructor of llama_context, src/llama-context.cpp, llama.cpp@0c1e57098.
    """
    return n_devices > 1 and offloads_all(shape.n_layer, options) and not options.n_cpu_moe


def copied_inputs_bytes(shape: Shape, options: Options, device: int, *, is_pipelined: bool) -> int:
    """Return the bytes by which the buffer of a device exceeds that of the network on one device.

    `device` counts from 0, the one with the first layers. What comes from another device is copied
    into the buffer; in a pipeline there are as many copies of all inputs as ubatches under way.
    What the host's experts return is added to the hidden state in the buffer. Source:
    ggml_backend_sched_split_graph, ggml/src/ggml-backend.cpp, llama.cpp@0c1e57098; the figures of a
    pipeline are equal to llama.cpp's for 31B, those without one are upper bounds.

    Not counted: a GPU's backend may copy experts of the host, unless they are repacked for the CPU,
    for ubatches of 32 tokens and more (`op_offload`). It then holds a matrix of experts too.
    Workers copy none; no GPU was there to measure it.
    """
    hidden_bytes = _F32_BYTES * options.ubatch * shape.n_embd
    if not is_pipelined:
        return hidden_bytes * (2 if keeps_experts(shape, options) else 1)
    inputs = sum(leaf.nbytes for leaf in build_network(shape, options).leaves)
    return (_SCHED_COPIES - 1) * inputs + (_SCHED_COPIES * hidden_bytes if device else 0)


def work_buffer_bytes(shape: Shape, options: Options) -> int:
    """Return the bytes of the work buffer of the CPU kernels.

    A kernel first converts its activations to the type that it multiplies with: 8 bits for
    quantized weights, BF16 otherwise. The buffer holds those of the widest matrix product.

    Source: ggml_graph_plan, ggml/src/ggml-cpu/ggml-cpu.c, llama.cpp@0c1e57098. The figure is for
    BF16, the larger of the two, since the type differs by weight.
    """
    widest = max(max(shape.n_ff), shape.n_expert_used * shape.n_ff_expert)
    return _BF16_BYTES * options.ubatch * widest


def output_bytes(shape: Shape, options: Options) -> int:
    """Return the bytes of the output buffer: one row of logits in F32 for each sequence.

    Speculative decoding needs one row more than it drafts tokens; a draft model also needs the
    hidden states of the whole batch. Source: llama_context::output_reserve, src/llama-context.cpp,
    llama.cpp@0c1e57098.
    """
    states = shape.n_embd * options.batch if options.draft else 0
    return _F32_BYTES * (shape.n_vocab * max(options.n_seq, options.n_draft + 1) + states)


def vocabulary_bytes(n_vocab: int) -> int:
    """Return the bytes of a loaded vocabulary. A draft model has one of its own."""
    return _VOCABULARY_BYTES_PER_TOKEN * n_vocab

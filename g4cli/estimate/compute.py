"""llama.cpp's compute buffer: the scratch of one ubatch through the network, to the byte on a CPU."""

from __future__ import annotations

from g4cli.core.shape import Shape
from g4cli.estimate.graph import graph_bytes
from g4cli.estimate.network import build_network
from g4cli.estimate.options import Options


def compute_bytes(shape: Shape, options: Options) -> int:
    """Return the bytes of the scratch for the largest ubatch, everything on one device.

    Source: llama_context::sched_reserve, src/llama-context.cpp, llama.cpp@0c1e57098.
    """
    return graph_bytes(build_network(shape, options))


def work_bytes(shape: Shape, options: Options) -> int:
    """Return the bytes that the CPU's kernels work in: the rows of the widest product, in 8 bits or BF16.

    Source: ggml_graph_plan, ggml/src/ggml-cpu/ggml-cpu.c, llama.cpp@0c1e57098 (the larger of the two, since
    it hangs on each weight's type).
    """
    return 2 * options.ubatch * max(max(shape.n_ff), shape.n_expert_used * shape.n_ff_expert)


def output_bytes(shape: Shape, options: Options) -> int:
    """Return the bytes of the buffer that a context hands its logits out of: one row per sequence.

    Source: llama_context::output_reserve, src/llama-context.cpp, llama.cpp@0c1e57098.
    """
    return 4 * shape.n_vocab * options.n_seq

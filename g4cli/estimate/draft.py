"""Memory of a draft model: weights, compute buffer and output buffer.

A draft model has no KV cache of its own: it reads that of the model (`ctx_other` of llama.cpp's
context parameters). Source: src/models/gemma4-assistant.cpp (graph) and output_reserve in
src/llama-context.cpp, llama.cpp@0c1e57098. Compared to the byte with llama.cpp's figures:
tests/golden/draft_*.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from g4cli.core.draft import DraftShape
from g4cli.core.shape import Shape
from g4cli.estimate.compute import vocabulary_bytes
from g4cli.estimate.graph import Graph, graph_bytes
from g4cli.estimate.network import Builder
from g4cli.estimate.options import Draft, Options
from g4cli.estimate.result import HOST, Group, Term
from g4cli.estimate.weights import weight_terms

# The groups of weight terms that a draft model has, and the names of its own terms.
_NAMES: Final[tuple[tuple[Group, str], ...]] = (
    ("weights", "draft model"),
    ("cache", "draft model page cache"),
)


def draft_terms(shape: Shape, options: Options, gpus: Sequence[str]) -> list[Term]:
    """Return the terms of `options.draft` for a model of `shape`.

    All of a draft model is on the first GPU, or on the host if there is none.
    """
    draft = options.draft
    if draft is None:
        return []
    device_of_all = gpus[0] if gpus else HOST
    devices = (device_of_all,) * (draft.shape.n_layer + 1)
    draft_options = replace(options, lazy_ple=False, n_cpu_moe=0, unlisted_weight_bytes=0)
    weights = weight_terms(draft.tensors, draft_options, devices)
    # llama.cpp loads a draft model's embeddings first: on the host they also are the output matrix.
    weights = [t for t in weights if (t.name, t.device) != ("output matrix", HOST)]
    terms = []
    for device in dict.fromkeys(t.device for t in weights):
        for group, name in _NAMES:
            nbytes = sum(t.nbytes for t in weights if t.device == device and t.group == group)
            if nbytes:
                note = "uses the model's KV cache" if group == "weights" else ""
                terms.append(Term(name, device, group, nbytes, note))
    compute = draft_compute_bytes(draft, shape, options) + draft_output_bytes(draft)
    note = f"ubatch {draft.n_ubatch}, and its output"
    vocabulary = vocabulary_bytes(draft.shape.n_vocab)
    return [
        *terms,
        Term("draft model buffers", device_of_all, "compute", compute, note),
        Term("draft model vocabulary", HOST, "process", vocabulary),
    ]


def draft_compute_bytes(draft: Draft, shape: Shape, options: Options) -> int:
    """Return the bytes of the draft model's compute buffer on one device.

    `shape` is that of the model that it drafts for.
    """
    return _compute_bytes(replace(draft, tensors=()), shape, options.select_graph_options())


def draft_output_bytes(draft: Draft) -> int:
    """Return the bytes of `n_outputs` rows of logits and of hidden states, in F32."""
    return 4 * (draft.shape.n_vocab + draft.shape.n_embd_out) * draft.n_outputs


@lru_cache(maxsize=64)
def _compute_bytes(draft: Draft, shape: Shape, options: Options) -> int:
    n_tokens = min(draft.n_ubatch, options.n_ctx)  # llama.cpp limits a batch to the context
    builder = Builder(draft.shape, n_tokens, shape, options)
    return graph_bytes(_build_graph(builder, draft.shape, min(draft.n_outputs, n_tokens)))


def _build_graph(builder: Builder, network: DraftShape, n_outputs: int) -> Graph:
    """Return the graph of one ubatch of a draft model, in the order of llama.cpp's own calls.

    Its outputs are marked: the logits and the next hidden states of `n_outputs` tokens.
    """
    g, n_tokens, n_out = builder.graph, builder.n_tokens, network.n_embd_out
    # The draft model gets the token's embedding and the hidden state of the model it drafts for.
    embedded = g.new_like("scale", g.new_op("get_rows", (n_out, n_tokens), g.new_input(n_tokens)))
    both = g.new_op("concat", (2 * n_out, n_tokens), embedded, g.new_input(n_out, n_tokens))
    stream = g.multiply(both, network.n_embd)
    out_ids = g.new_input(n_outputs)
    for layer in range(network.n_layer):
        attended = builder.add_attention(layer, g.rms_norm(stream))
        # After the last attention, only the rows whose logits are needed are computed.
        if layer == network.n_layer - 1:
            rows = (network.n_embd, n_outputs)
            attended = g.new_op("get_rows", rows, attended, out_ids)
            stream = g.new_op("get_rows", rows, stream, out_ids)
        attended = g.new_like("add", g.rms_norm(attended), stream)
        out = g.rms_norm(builder.add_feed_forward(layer, g.rms_norm(attended)))
        stream = g.new_like("mul", g.new_like("add", out, attended))
    last = g.rms_norm(stream)
    for width in (network.n_vocab, n_out):
        output = g.multiply(last, width)
        output.is_output = True
        g.append_node(output)
    return g

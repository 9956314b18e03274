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
from g4cli.estimate.graph import CPU_ALIGNMENT, Graph, Node, graph_bytes
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
    terms.append(
        Term(
            "draft model buffers",
            device_of_all,
            "compute",
            compute,
            f"ubatch {draft.n_ubatch}, and its output",
        )
    )
    terms.append(
        Term("draft model vocabulary", HOST, "process", vocabulary_bytes(draft.shape.n_vocab))
    )
    return terms


def draft_compute_bytes(
    draft: Draft, shape: Shape, options: Options, alignment: int = CPU_ALIGNMENT
) -> int:
    """Return the bytes of the draft model's compute buffer on one device.

    `shape` is that of the model that it drafts for.
    """
    n_tokens = min(draft.n_ubatch, options.n_ctx)  # llama.cpp limits a batch to the context
    return _compute_bytes(
        draft.shape, n_tokens, draft.n_outputs, shape, options.without_loading(), alignment
    )


def draft_output_bytes(draft: Draft) -> int:
    """Return the bytes of `n_outputs` rows of logits and of hidden states, in F32."""
    return 4 * (draft.shape.n_vocab + draft.shape.n_embd_out) * draft.n_outputs


@lru_cache(maxsize=64)
def _compute_bytes(
    network: DraftShape,
    n_tokens: int,
    n_outputs: int,
    shape: Shape,
    options: Options,
    alignment: int,
) -> int:
    return graph_bytes(
        _DraftBuilder(network, n_tokens, n_outputs, shape, options).build_graph(), alignment
    )


class _DraftBuilder(Builder):
    """Builds the graph of one ubatch of a draft model, in the order of llama.cpp's own calls."""

    def __init__(
        self, network: DraftShape, n_tokens: int, n_outputs: int, shape: Shape, options: Options
    ) -> None:
        super().__init__(shape, options)
        self.network, self.n_outputs = network, min(n_outputs, n_tokens)
        self.n_tokens = -(-n_tokens // options.n_seq) * options.n_seq

    def build_graph(self) -> Graph:
        """Return the graph with its outputs marked: logits and the next hidden states."""
        g, network = self.graph, self.network
        # The draft model gets the token's embedding and the hidden state of the model it drafts
        # for.
        n_out, n_tokens = network.n_embd_out, self.n_tokens
        embedded = g.new_like(
            "scale", g.new_op("get_rows", (n_out, n_tokens), g.new_input(n_tokens))
        )
        both = g.new_op("concat", (2 * n_out, n_tokens), embedded, g.new_input(n_out, n_tokens))
        stream = g.new_op("mul_mat", (network.n_embd, n_tokens), both)
        self.add_caches()
        self.positions = g.new_input(self.n_tokens)
        out_ids = g.new_input(self.n_outputs)
        for layer in range(network.n_layer):
            attended = self._add_draft_attention(layer, self.rms_norm(stream))
            # After the last attention, only the rows whose logits are needed are computed.
            if layer == network.n_layer - 1:
                self.n_tokens = self.n_outputs
                rows = (network.n_embd, self.n_outputs)
                attended = g.new_op("get_rows", rows, attended, out_ids)
                stream = g.new_op("get_rows", rows, stream, out_ids)
            attended = g.new_like("add", self.rms_norm(attended), stream)
            x = self.rms_norm(attended)
            n_ff = (network.n_ff[layer], self.n_tokens)
            up, gate = g.new_op("mul_mat", n_ff, x), g.new_op("mul_mat", n_ff, x)
            out = g.new_op(
                "mul_mat", (network.n_embd, self.n_tokens), g.new_op("glu", n_ff, gate, up)
            )
            stream = g.new_like("mul", g.new_like("add", self.rms_norm(out), attended))
        last = self.rms_norm(stream)
        logits = g.new_op("mul_mat", (network.n_vocab, self.n_outputs), last)
        hidden = g.new_op("mul_mat", (network.n_embd_out, self.n_outputs), last)
        logits.is_output = hidden.is_output = True
        g.append_node(logits)
        g.append_node(hidden)
        return g

    def _add_draft_attention(self, layer: int, x: Node) -> Node:
        g, network = self.graph, self.network
        dim, n_head = network.head_dim_of(layer), network.n_head[layer]
        cache = self.sliding if network.is_swa[layer] else self.full
        q = g.new_view(
            g.new_op("mul_mat", (dim * n_head, self.n_tokens), x), dim, n_head, self.n_tokens
        )
        q = g.new_like("rope", self.rms_norm(q), self.positions)
        if cache.k_rot:
            q = self.rotate_heads(q, cache.k_rot)
        g.append_node(q)
        out = self.attend_to_cache(q, cache, dim, n_head)
        if cache.v_rot:
            out = self.rotate_heads(out, cache.v_rot)
        return g.new_op("mul_mat", (network.n_embd, self.n_tokens), out)

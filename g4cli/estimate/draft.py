"""Memory of a draft model: its weights, its compute buffer, its logits.

It has no KV cache of its own and reads that of the model (ctx_other). Source:
src/models/gemma4-assistant.cpp (graph) and output_reserve in src/llama-context.cpp,
llama.cpp@0c1e57098. Proved by tests/golden/draft_*.json.
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

_NAMES: Final[tuple[tuple[Group, str], ...]] = (
    ("weights", "drafter"),
    ("cache", "drafter's page cache"),
)


def draft_terms(shape: Shape, options: Options, gpus: Sequence[str]) -> list[Term]:
    """Return the terms of `options.draft` for a model of `shape`: on the first GPU, if there is one."""
    draft = options.draft
    if draft is None:
        return []
    device_of_all = gpus[0] if gpus else HOST
    devices = (device_of_all,) * (draft.shape.n_layer + 1)
    own = replace(options, lazy_ple=False, n_cpu_moe=0, unlisted_weight_bytes=0)
    found = weight_terms(draft.tensors, own, devices)
    # Its loader asks for the embeddings first: on the host the output matrix is that same tensor.
    found = [t for t in found if (t.name, t.device) != ("output matrix", HOST)]
    terms = []
    for device in dict.fromkeys(t.device for t in found):
        for group, name in _NAMES:
            nbytes = sum(t.nbytes for t in found if t.device == device and t.group == group)
            if nbytes:
                note = "its KV cache is the model's" if group == "weights" else ""
                terms.append(Term(name, device, group, nbytes, note))
    compute = draft_compute_bytes(draft, shape, options) + draft_output_bytes(draft)
    terms.append(
        Term(
            "drafter's compute",
            device_of_all,
            "compute",
            compute,
            f"ubatch {draft.n_ubatch}, logits",
        )
    )
    terms.append(
        Term("drafter's vocabulary", HOST, "process", vocabulary_bytes(draft.shape.n_vocab))
    )
    return terms


def draft_compute_bytes(
    draft: Draft, shape: Shape, options: Options, alignment: int = CPU_ALIGNMENT
) -> int:
    """Return the bytes of the draft model's compute buffer on one device; `shape` is the model's."""
    n_tokens = min(draft.n_ubatch, options.n_ctx)
    return _compute_bytes(draft.shape, n_tokens, draft.n_outputs, shape, options.bare(), alignment)


def draft_output_bytes(draft: Draft) -> int:
    """Return the bytes of the buffer that logits and hidden states are read from: 4 for each number."""
    return 4 * (draft.shape.n_vocab + draft.shape.n_embd_out) * draft.n_outputs


@lru_cache(maxsize=64)
def _compute_bytes(
    drafter: DraftShape,
    n_tokens: int,
    n_outputs: int,
    shape: Shape,
    options: Options,
    alignment: int,
) -> int:
    return graph_bytes(
        _DraftBuilder(drafter, n_tokens, n_outputs, shape, options).build(), alignment
    )


class _DraftBuilder(Builder):
    """The graph of one ubatch of a draft model, in the order of llama.cpp's own calls."""

    def __init__(
        self, drafter: DraftShape, n_tokens: int, n_outputs: int, shape: Shape, options: Options
    ) -> None:
        super().__init__(shape, options)
        self.drafter, self.n_outputs = drafter, min(n_outputs, n_tokens)
        self.n_tokens = -(-n_tokens // options.n_seq) * options.n_seq

    def build(self) -> Graph:
        """Return the graph with its outputs marked: logits and the next hidden states."""
        g, drafter = self.graph, self.drafter
        wide, width = (drafter.n_embd_out, self.n_tokens), (drafter.n_embd, self.n_tokens)
        embedded = g.like("scale", g.op("get_rows", wide, g.input(self.n_tokens)))
        both = g.op("concat", (2 * wide[0], self.n_tokens), embedded, g.input(*wide))
        stream = g.op("mul_mat", width, both)
        self.add_caches()
        self.positions = g.input(self.n_tokens)
        out_ids = g.input(self.n_outputs)
        for layer in range(drafter.n_layer):
            attended = self._add_draft_attention(layer, self.norm(stream))
            if layer == drafter.n_layer - 1:
                self.n_tokens = self.n_outputs
                rows = (drafter.n_embd, self.n_outputs)
                attended = g.op("get_rows", rows, attended, out_ids)
                stream = g.op("get_rows", rows, stream, out_ids)
            attended = g.like("add", self.norm(attended), stream)
            x = self.norm(attended)
            n_ff = (drafter.n_ff[layer], self.n_tokens)
            up, gate = g.op("mul_mat", n_ff, x), g.op("mul_mat", n_ff, x)
            out = g.op("mul_mat", (drafter.n_embd, self.n_tokens), g.op("glu", n_ff, gate, up))
            stream = g.like("mul", g.like("add", self.norm(out), attended))
        last = self.norm(stream)
        logits = g.op("mul_mat", (drafter.n_vocab, self.n_outputs), last)
        hidden = g.op("mul_mat", (drafter.n_embd_out, self.n_outputs), last)
        logits.is_output = hidden.is_output = True
        g.expand(logits)
        g.expand(hidden)
        return g

    def _add_draft_attention(self, layer: int, x: Node) -> Node:
        g, drafter = self.graph, self.drafter
        dim, n_head = drafter.head_dim_of(layer), drafter.n_head[layer]
        cache = self.sliding if drafter.is_swa[layer] else self.full
        q = g.view(g.op("mul_mat", (dim * n_head, self.n_tokens), x), dim, n_head, self.n_tokens)
        q = g.like("rope", self.norm(q), self.positions)
        if cache.k_rot:
            q = self.rotated(q, cache.k_rot)
        g.expand(q)
        out = self.mixed(q, cache, dim, n_head)
        if cache.v_rot:
            out = self.rotated(out, cache.v_rot)
        return g.op("mul_mat", (drafter.n_embd, self.n_tokens), out)

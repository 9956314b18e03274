"""The graph of Gemma 4 as llama.cpp builds it for one ubatch, reduced to what decides memory.

Source: src/models/gemma4.cpp (graph), src/llama-graph.cpp (build_inp_*, build_attn, build_ffn,
build_moe_ffn), src/llama-kv-cache.cpp (cpy_k, cpy_v, build_input_*), llama.cpp@0c1e57098. The order of the
calls is theirs: the allocator's result depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from g4cli.core.shape import Shape
from g4cli.estimate.graph import Graph, Node
from g4cli.estimate.kv import kv_cells
from g4cli.estimate.options import Options

_I64: Final = 8


@dataclass(frozen=True, slots=True)
class _Cache:
    """Inputs of the attention of one kind of layer."""

    k_ids: Node
    v_ids: Node
    mask: Node
    k_rot: Node | None
    v_rot: Node | None
    n_cells: int


def build_network(shape: Shape, options: Options) -> Graph:
    """Return the graph of the largest ubatch, with as many rows of logits as the options allow."""
    return Builder(shape, options).build()


class Builder:
    """Builds the graph of one network; the parts of a layer serve its drafter too (draft.py)."""

    def __init__(self, shape: Shape, options: Options) -> None:
        self.shape, self.options, self.graph = shape, options, Graph()
        cells = kv_cells(shape, options)
        self.n_stream = cells.n_stream
        # graph_reserve rounds the tokens up to a multiple of the sequences.
        tokens = options.ubatch
        self.n_tokens = -(-tokens // options.n_seq) * options.n_seq
        self.cells = cells
        self.widest_v = max(shape.kv_width(i) for i in range(shape.n_layer))

    def build(self) -> Graph:
        g, shape, n_tokens = self.graph, self.shape, self.n_tokens
        width = (shape.n_embd, n_tokens)
        tokens = g.input(n_tokens)
        embedded = g.op("get_rows", width, tokens)
        g.expand(embedded)
        g.expand(g.input(*width))  # where images enter; reserved in every graph
        stream = g.like("scale", embedded)
        self.positions = g.input(n_tokens)
        self.add_caches()
        out_ids = g.input(self.options.outputs)
        per_layer = self._add_per_layer_inputs(stream) if shape.n_embd_per_layer else None
        for layer in range(shape.n_layer):
            stream = self._add_layer(layer, stream, per_layer)
        normed = self.norm(stream)
        normed.is_output = True  # read by drafting contexts
        rows = g.op("get_rows", (shape.n_embd, out_ids.ne[0]), normed, out_ids)
        rows.is_output = True
        logits = g.op("mul_mat", (shape.n_vocab, out_ids.ne[0]), rows)
        for op in ("scale", "unary", "scale"):  # the soft cap
            logits = g.like(op, logits)
        logits.is_output = True
        g.expand(logits)
        return g

    def add_caches(self) -> None:
        """Add the inputs of the attention of both kinds of layers."""
        self.full, self.sliding = (
            self._add_cache(self.cells.full, False),
            self._add_cache(self.cells.swa, True),
        )

    def _add_cache(self, n_cells: int, is_swa: bool) -> _Cache:
        g, options = self.graph, self.options
        per_token = 1 if options.flash_attn else self.widest_v
        head_dim = self.shape.head_dim_swa if is_swa else self.shape.head_dim
        mask = g.input(
            n_cells,
            self.n_tokens // self.n_stream,
            1,
            self.n_stream,
            width=2 if options.flash_attn else 4,
        )
        owners = [i for i in range(self.shape.n_layer_kv) if self.shape.is_swa[i] == is_swa]
        turns = bool(owners) and self.shape.head_dim % 64 == 0
        k_turns = turns and options.type_k.is_quantized
        v_turns = turns and options.type_v.is_quantized
        k_size = _rotation_size(head_dim)
        return _Cache(
            g.input(self.n_tokens, width=_I64),
            g.input(self.n_tokens * per_token, width=_I64),
            mask,
            g.input(k_size, k_size) if k_turns else None,
            g.input(64, 64) if v_turns else None,
            n_cells,
        )

    def _add_per_layer_inputs(self, stream: Node) -> Node:
        g, shape, n_tokens = self.graph, self.shape, self.n_tokens
        n, n_layer = shape.n_embd_per_layer, shape.n_layer
        selected = g.op("get_rows", (n * n_layer, n_tokens), g.input(n_tokens))
        chosen = g.like("scale", g.view(selected, n, n_layer, n_tokens))
        g.expand(chosen)
        projected = g.like("scale", g.op("mul_mat", (n * n_layer, n_tokens), stream))
        projected = self.norm(g.view(projected, n, n_layer, n_tokens))
        both = g.like("scale", g.like("add", projected, chosen))
        return g.op("cont", (n, n_tokens, n_layer), g.view(both, n, n_tokens, n_layer))

    def norm(self, x: Node) -> Node:
        return self.graph.like("mul", self.graph.like("rms_norm", x))

    def _add_layer(self, layer: int, stream: Node, per_layer: Node | None) -> Node:
        g, shape = self.graph, self.shape
        attended = self.norm(
            self._add_attention(layer, self.norm(stream), (shape.n_embd, self.n_tokens))
        )
        attended = g.like("add", attended, stream)
        if shape.n_expert:
            dense = self.norm(self.feed_forward(layer, self.norm(attended)))
            experts = self.norm(self._add_experts(self.norm(attended), attended))
            out = g.like("add", dense, experts)
        else:
            out = self.feed_forward(layer, self.norm(attended))
        out = g.like("add", self.norm(out), attended)
        if per_layer:
            out = self._add_per_layer(out, per_layer)
        return g.like("mul", out)  # layer_output_scale

    def _add_attention(self, layer: int, x: Node, width: tuple[int, int]) -> Node:
        g, shape, n_tokens = self.graph, self.shape, self.n_tokens
        dim, n_head, n_kv = shape.head_dim_of(layer), shape.n_head[layer], shape.n_head_kv[layer]
        cache = self.sliding if shape.is_swa[layer] else self.full
        q = g.view(g.op("mul_mat", (dim * n_head, n_tokens), x), dim, n_head, n_tokens)
        q = g.like("rope", self.norm(q), self.positions)
        k = v = None
        if layer < shape.n_layer_kv:
            k_made = g.op("mul_mat", (dim * n_kv, n_tokens), x)
            shared = shape.k_eq_v and not shape.is_swa[layer]
            v_made = k_made if shared else g.op("mul_mat", (dim * n_kv, n_tokens), x)
            k = g.view(k_made, dim, n_kv, n_tokens)
            v = g.view(v_made, dim, n_kv, n_tokens)
            k = self.norm(k)
            v = g.like("rms_norm", v)
            k = g.like("rope", k, self.positions)
        if cache.k_rot:
            q = self.rotated(q, cache.k_rot)
            k = self.rotated(k, cache.k_rot) if k else None
        if cache.v_rot and v:
            v = self.rotated(v, cache.v_rot)
        for node in (q, k, v):
            if node:
                g.expand(node)
        if k and v:
            g.expand(g.store(g.view(k, dim * n_kv, n_tokens), cache.k_ids))
            g.expand(g.store(self._view_stored_v(v, dim * n_kv), cache.v_ids))
        out = self.mixed(q, cache, dim, n_head)
        if cache.v_rot:
            out = self.rotated(out, cache.v_rot)
        return g.op("mul_mat", width, out)

    def _view_stored_v(self, v: Node, n: int) -> Node:
        g, n_tokens = self.graph, self.n_tokens
        if self.options.flash_attn:
            return g.view(v, n, n_tokens)
        flat = g.view(v, n, n_tokens)
        if n < self.widest_v:
            flat = g.op("pad", (self.widest_v, n_tokens), flat)
        return g.view(flat, 1, flat.ne[0] * n_tokens)

    def mixed(self, q: Node, cache: _Cache, dim: int, n_head: int) -> Node:
        g, n_stream = self.graph, self.n_stream
        per_stream = self.n_tokens // n_stream
        q = g.view(g.view(q, dim, n_head, per_stream, n_stream), dim, per_stream, n_head, n_stream)
        if self.options.flash_attn:
            mixed = g.op("flash_attn", (dim, n_head, per_stream, n_stream), q, cache.mask)
            out = g.view(mixed, dim * n_head, self.n_tokens)
        else:
            scores = g.op("mul_mat", (cache.n_cells, per_stream, n_head, n_stream), q)
            scores = g.like("soft_max", scores, cache.mask)
            mixed = g.op("mul_mat", (dim, per_stream, n_head, n_stream), scores)
            turned = g.view(mixed, dim, n_head, per_stream, n_stream)
            out = g.op("cont", (dim * n_head, self.n_tokens), turned)
        g.expand(out)
        return out

    def rotated(self, x: Node, rotation: Node) -> Node:
        g, n = self.graph, rotation.ne[0]
        total = 1
        for extent in x.ne:
            total *= extent
        flat = g.view(x, n, total // n)
        return g.view(g.op("mul_mat", flat.ne, rotation, flat), *x.ne)

    def feed_forward(self, layer: int, x: Node) -> Node:
        g, n_ff = self.graph, (self.shape.n_ff[layer], self.n_tokens)
        up, gate = g.op("mul_mat", n_ff, x), g.op("mul_mat", n_ff, x)
        return g.op("mul_mat", (self.shape.n_embd, self.n_tokens), g.op("glu", n_ff, gate, up))

    def _add_experts(self, x: Node, attended: Node) -> Node:
        g, shape, n_tokens = self.graph, self.shape, self.n_tokens
        n_embd, n_expert, used, n_ff = (
            shape.n_embd,
            shape.n_expert,
            shape.n_expert_used,
            shape.n_ff_expert,
        )
        routed = g.like("mul", g.like("scale", g.like("rms_norm", attended)))
        probs = g.like("soft_max", g.op("mul_mat", (n_expert, n_tokens), routed))
        chosen = g.view(g.like("argsort", probs), used, n_tokens)
        weights = g.op(
            "get_rows", (1, used, n_tokens), g.view(probs, 1, n_expert, n_tokens), chosen
        )
        weights = g.view(weights, used, n_tokens)
        total = g.like("clamp", g.op("sum_rows", (1, n_tokens), weights))
        weights = g.view(g.like("div", weights, total), 1, used, n_tokens)
        g.expand(weights)
        both = g.op(
            "mul_mat_id", (2 * n_ff, used, n_tokens), g.view(x, n_embd, 1, n_tokens), chosen
        )
        gate, up = g.view(both, n_ff, used, n_tokens), g.view(both, n_ff, used, n_tokens)
        inner = g.op("glu", gate.ne, gate, up)
        experts = g.op("mul_mat_id", (n_embd, used, n_tokens), inner, chosen)
        # The scale of each expert, repeated for each token, then picked.
        scales = g.op("repeat", (1, n_expert, n_tokens))
        experts = g.like("mul", experts, g.op("get_rows", (1, used, n_tokens), scales, chosen))
        experts = g.like("mul", experts, weights)
        g.expand(experts)
        parts = [g.view(experts, n_embd, n_tokens) for _ in range(used)]
        for part in parts:
            g.expand(part)
        out = parts[0]
        for part in parts[1:]:
            out = g.op("add", (n_embd, n_tokens), out, part)
            g.expand(out)
        return out

    def _add_per_layer(self, x: Node, per_layer: Node) -> Node:
        g, n = self.graph, (self.shape.n_embd_per_layer, self.n_tokens)
        gated = g.like("unary", g.op("mul_mat", n, x))
        gated = g.like("mul", gated, g.view(per_layer, *n))
        out = self.norm(g.op("mul_mat", (self.shape.n_embd, self.n_tokens), gated))
        return g.like("add", x, out)


def _rotation_size(head_dim: int) -> int:
    """Return the side of the Hadamard matrix for quantized keys: the largest power of 2 that divides."""
    side = 64
    while head_dim % (2 * side) == 0:
        side *= 2
    return side

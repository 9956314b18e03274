"""The graph of Gemma 4 as llama.cpp builds it for one ubatch, reduced to what decides memory.

The estimate of the compute buffer (compute.py) runs the simulated allocator of graph.py on it. A
`Builder` calls graph operations as llama.cpp calls ggml's; where the graph branches on an option
(flash attention, a quantized KV cache, mixture of experts), so does the builder.

Source: src/models/gemma4.cpp (graph), src/llama-graph.cpp (build_inp_*, build_attn, build_ffn,
build_moe_ffn), src/llama-kv-cache.cpp (cpy_k, cpy_v, build_input_*), llama.cpp@0c1e57098. The
order of the calls is the same, because the allocator's result depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from g4cli.core.ggml import round_up
from g4cli.core.shape import LayersShape, Shape
from g4cli.estimate.graph import Graph, Node
from g4cli.estimate.kv import kv_cells
from g4cli.estimate.options import Options

_INT64_BYTES: Final = 8
_MIN_ROTATION: Final = 64  # the smallest Hadamard matrix of llama.cpp, and the one for V


@dataclass(frozen=True, slots=True)
class _CacheInputs:
    """Inputs of the attention of one kind of layer, full or sliding.

    `n_cells` are the cells of a stream. `k_ids` and `v_ids` are the cells to write to, `mask` says
    which cells a token attends to, `k_rot` and `v_rot` are the Hadamard matrices that rotate heads
    before they are quantized, None for other types.
    """

    k_ids: Node
    v_ids: Node
    mask: Node
    k_rot: Node | None
    v_rot: Node | None
    n_cells: int


def build_network(shape: Shape, options: Options) -> Graph:
    """Return the graph of the largest ubatch, with as many rows of logits as the options allow."""
    return Builder(shape, options.ubatch, shape, options).build_graph()


class Builder:
    """Builds the graph of one ubatch of `network`; draft.py builds a draft model's with it.

    `shape` is that of the model whose KV cache is used: the same one, except for a draft model.

    A method returns the node of its result. A node is computed, and so enters the graph, when it or
    a node that reads it is appended: in the order in which llama.cpp calls
    ggml_build_forward_expand. `stream` is the hidden state that a layer hands to the next one.
    """

    def __init__(self, network: LayersShape, n_tokens: int, shape: Shape, options: Options) -> None:
        self.network, self.shape, self.options = network, shape, options
        self.graph, self.cells = Graph(), kv_cells(shape, options)
        self.n_stream = self.cells.n_stream
        # graph_reserve rounds the tokens up to a multiple of the sequences.
        self.n_tokens = round_up(n_tokens, options.n_seq)
        self.widest_v = max(shape.kv_width(i) for i in range(shape.n_layer))
        self.positions = self.graph.new_input(self.n_tokens)
        self.full = self._make_cache_inputs(self.cells.full, False)
        self.sliding = self._make_cache_inputs(self.cells.swa, True)

    def build_graph(self) -> Graph:
        """Return the graph with its outputs marked: the hidden states and the logits."""
        g, shape, n_tokens = self.graph, self.shape, self.n_tokens
        hidden = (shape.n_embd, n_tokens)
        tokens = g.new_input(n_tokens)
        embedded = g.new_op("get_rows", hidden, tokens)
        g.append_node(embedded)
        g.append_node(g.new_input(*hidden))  # embeddings of images; reserved in every graph
        stream = g.new_like("scale", embedded)
        out_ids = g.new_input(self.options.outputs)
        per_layer = self._add_per_layer_inputs(stream) if shape.n_embd_per_layer else None
        for layer in range(shape.n_layer):
            stream = self._add_layer(layer, stream, per_layer)
        normed = g.rms_norm(stream)
        normed.is_output = True  # a draft model's context reads it
        rows = g.new_op("get_rows", (shape.n_embd, out_ids.ne[0]), normed, out_ids)
        rows.is_output = True
        logits = g.multiply(rows, shape.n_vocab)
        for op in ("scale", "unary", "scale"):  # the soft cap
            logits = g.new_like(op, logits)
        logits.is_output = True
        g.append_node(logits)
        return g

    def _make_cache_inputs(self, n_cells: int, is_swa: bool) -> _CacheInputs:
        g, options = self.graph, self.options
        # Without flash attention V is stored transposed: each element has a cell of its own.
        v_ids_per_token = 1 if options.flash_attn else self.widest_v
        head_dim = self.shape.head_dim_swa if is_swa else self.shape.head_dim
        mask = g.new_input(
            n_cells,
            self.n_tokens // self.n_stream,
            1,
            self.n_stream,
            item_bytes=2 if options.flash_attn else 4,  # F16, else F32
        )
        has_layers = any(self.shape.is_swa[i] == is_swa for i in range(self.shape.n_layer_kv))
        # llama.cpp rotates heads before it quantizes them, to spread outliers over all values.
        rotates = has_layers and self.shape.head_dim % _MIN_ROTATION == 0
        rotates_k = rotates and options.type_k.is_quantized
        rotates_v = rotates and options.type_v.is_quantized
        # The largest power of 2 that divides the head.
        k_size = max(_MIN_ROTATION, head_dim & -head_dim)
        return _CacheInputs(
            g.new_input(self.n_tokens, item_bytes=_INT64_BYTES),
            g.new_input(self.n_tokens * v_ids_per_token, item_bytes=_INT64_BYTES),
            mask,
            g.new_input(k_size, k_size) if rotates_k else None,
            g.new_input(_MIN_ROTATION, _MIN_ROTATION) if rotates_v else None,
            n_cells,
        )

    def _add_per_layer_inputs(self, stream: Node) -> Node:
        """Return the per-layer inputs of all layers: (size, tokens, layers)."""
        g, shape, n_tokens = self.graph, self.shape, self.n_tokens
        n, n_layer = shape.n_embd_per_layer, shape.n_layer
        looked_up = g.new_op("get_rows", (n * n_layer, n_tokens), g.new_input(n_tokens))
        scaled = g.new_like("scale", g.new_view(looked_up, n, n_layer, n_tokens))
        g.append_node(scaled)
        projected = g.new_like("scale", g.multiply(stream, n * n_layer))
        projected = g.rms_norm(g.new_view(projected, n, n_layer, n_tokens))
        total = g.new_like("scale", g.new_like("add", projected, scaled))
        return g.copy_view(total, n, n_tokens, n_layer)

    def _add_layer(self, layer: int, stream: Node, per_layer: Node | None) -> Node:
        g, shape = self.graph, self.shape
        x = g.rms_norm(stream)
        # Layers after the last one with a cache of its own read the cache of an earlier layer.
        stored = self._make_kv(layer, x) if layer < shape.n_layer_kv else (None, None)
        attended = g.new_like("add", g.rms_norm(self.add_attention(layer, x, *stored)), stream)
        if shape.n_expert:
            dense = g.rms_norm(self.add_feed_forward(layer, g.rms_norm(attended)))
            experts = g.rms_norm(self._add_experts(g.rms_norm(attended), attended))
            out = g.new_like("add", dense, experts)
        else:
            out = self.add_feed_forward(layer, g.rms_norm(attended))
        out = g.new_like("add", g.rms_norm(out), attended)
        if per_layer:
            out = self._apply_per_layer_input(out, per_layer)
        return g.new_like("mul", out)  # layer_output_scale

    def _make_kv(self, layer: int, x: Node) -> tuple[Node, Node]:
        g, shape = self.graph, self.shape
        dim, n_kv = shape.head_dim_of(layer), shape.n_head_kv[layer]
        k = v = g.multiply(x, dim * n_kv)
        if not shape.k_eq_v or shape.is_swa[layer]:
            v = g.multiply(x, dim * n_kv)
        k, v = (g.new_view(node, dim, n_kv, self.n_tokens) for node in (k, v))
        k = g.new_like("rope", g.rms_norm(k), self.positions)
        return k, g.new_like("rms_norm", v)

    def add_attention(
        self, layer: int, x: Node, k: Node | None = None, v: Node | None = None
    ) -> Node:
        """Return the result of the attention of `layer`, whose input is `x`.

        `k` and `v` are written into the cache before; None if the layer has no cache of its own.
        """
        g, network, n_tokens = self.graph, self.network, self.n_tokens
        dim, n_head = network.head_dim_of(layer), network.n_head[layer]
        cache = self.sliding if network.is_swa[layer] else self.full
        q = g.new_view(g.multiply(x, dim * n_head), dim, n_head, n_tokens)
        q = _rotate_heads(g, g.new_like("rope", g.rms_norm(q), self.positions), cache.k_rot)
        g.append_node(q)
        if k and v:
            k, v = _rotate_heads(g, k, cache.k_rot), _rotate_heads(g, v, cache.v_rot)
            g.append_node(k)
            g.append_node(v)
            width = k.ne[0] * k.ne[1]
            g.append_node(g.new_store(g.new_view(k, width, n_tokens), cache.k_ids))
            g.append_node(g.new_store(self._view_stored_v(v, width), cache.v_ids))
        out = self._attend_to_cache(q, cache, dim, n_head)
        return g.multiply(_rotate_heads(g, out, cache.v_rot), network.n_embd)

    def _view_stored_v(self, v: Node, width: int) -> Node:
        g, n_tokens = self.graph, self.n_tokens
        flat = g.new_view(v, width, n_tokens)
        if self.options.flash_attn:
            return flat
        # Without flash attention V is stored transposed, one element at a time, padded to the
        # widest.
        if width < self.widest_v:
            flat = g.new_op("pad", (self.widest_v, n_tokens), flat)
        return g.new_view(flat, 1, flat.ne[0] * n_tokens)

    def _attend_to_cache(self, q: Node, cache: _CacheInputs, dim: int, n_head: int) -> Node:
        """Append the attention of the queries `q` to the cells of `cache`: build_attn_mha."""
        g, n_stream = self.graph, self.n_stream
        per_stream = self.n_tokens // n_stream
        q = g.new_view(
            g.new_view(q, dim, n_head, per_stream, n_stream), dim, per_stream, n_head, n_stream
        )
        if self.options.flash_attn:
            mixed = g.new_op("flash_attn", (dim, n_head, per_stream, n_stream), q, cache.mask)
            out = g.new_view(mixed, dim * n_head, self.n_tokens)
        else:
            scores = g.new_like("soft_max", g.multiply(q, cache.n_cells), cache.mask)
            permuted = g.new_view(g.multiply(scores, dim), dim, n_head, per_stream, n_stream)
            out = g.new_op("cont", (dim * n_head, self.n_tokens), permuted)
        g.append_node(out)
        return out

    def add_feed_forward(self, layer: int, x: Node) -> Node:
        """Return the result of the feed-forward network of `layer`, whose input is `x`."""
        g, n_ff = self.graph, self.network.n_ff[layer]
        up, gate = g.multiply(x, n_ff), g.multiply(x, n_ff)
        return g.multiply(g.new_op("glu", gate.ne, gate, up), self.network.n_embd)

    def _add_experts(self, x: Node, attended: Node) -> Node:
        """Return the sum of the experts that the router picks by `attended`, applied to `x`."""
        g, shape, n_tokens = self.graph, self.shape, self.n_tokens
        n_embd, n_ff = shape.n_embd, shape.n_ff_expert
        n_expert, n_used = shape.n_expert, shape.n_expert_used
        routed = g.new_like("mul", g.new_like("scale", g.new_like("rms_norm", attended)))
        probs = g.new_like("soft_max", g.multiply(routed, n_expert))
        chosen = g.new_view(g.new_like("argsort", probs), n_used, n_tokens)
        probs = g.new_view(probs, 1, n_expert, n_tokens)
        weights = g.new_view(
            g.new_op("get_rows", (1, n_used, n_tokens), probs, chosen), n_used, n_tokens
        )
        total = g.new_like("clamp", g.new_op("sum_rows", (1, n_tokens), weights))
        weights = g.new_view(g.new_like("div", weights, total), 1, n_used, n_tokens)
        g.append_node(weights)
        x = g.new_view(x, n_embd, 1, n_tokens)
        both = g.new_op("mul_mat_id", (2 * n_ff, n_used, n_tokens), x, chosen)
        gate, up = (g.new_view(both, n_ff, n_used, n_tokens) for _ in range(2))
        inner = g.new_op("glu", gate.ne, gate, up)
        experts = g.new_op("mul_mat_id", (n_embd, n_used, n_tokens), inner, chosen)
        # The scale of each expert, repeated for each token, then picked.
        scales = g.new_op("repeat", (1, n_expert, n_tokens))
        scales = g.new_op("get_rows", (1, n_used, n_tokens), scales, chosen)
        experts = g.new_like("mul", g.new_like("mul", experts, scales), weights)
        g.append_node(experts)
        out, *others = [g.new_view(experts, n_embd, n_tokens) for _ in range(n_used)]
        for part in (out, *others):
            g.append_node(part)
        for part in others:
            out = g.new_like("add", out, part)
            g.append_node(out)
        return out

    def _apply_per_layer_input(self, x: Node, per_layer: Node) -> Node:
        g, shape = self.graph, self.shape
        gated = g.new_like("unary", g.multiply(x, shape.n_embd_per_layer))
        gated = g.new_like("mul", gated, g.new_view(per_layer, *gated.ne))
        return g.new_like("add", x, g.rms_norm(g.multiply(gated, shape.n_embd)))


def _rotate_heads(g: Graph, x: Node, rotation: Node | None) -> Node:
    """Return `x` multiplied by the Hadamard matrix `rotation`, in the shape of `x`."""
    if rotation is None:
        return x
    n = rotation.ne[0]
    flat = g.new_view(x, n, prod(x.ne) // n)
    return g.new_view(g.new_op("mul_mat", flat.ne, rotation, flat), *x.ne)

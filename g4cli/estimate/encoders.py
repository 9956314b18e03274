"""The graphs of Gemma 4's encoders as mtmd builds them, reduced to what decides memory.

Source: tools/mtmd/models/gemma4v.cpp, gemma4uv.cpp, gemma4a.cpp, gemma4ua.cpp and
clip_graph::build_vit, build_attn, build_ffn in tools/mtmd/clip.cpp, llama.cpp@0c1e57098. The order
of the calls is the same, because the allocator's result depends on it. Flash attention is used
where the backend supports it, as the CPU does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from g4cli.estimate.graph import Graph, Node

# Chunked attention of the conformer, gemma4a.cpp: frames in a chunk, frames before it that it
# attends to, and both together.
_CHUNK: Final = 12
_PAST: Final = 12
_SPAN: Final = _CHUNK + _PAST
_CHANNELS: Final = (128, 32)  # of the two convolutions over audio
_KERNEL: Final = 5  # numbers of the kernel of the depthwise convolution


@dataclass(frozen=True, slots=True)
class Encoder:
    """The shape of one encoder, of images or of audio.

    With `n_layer` 0 it has no transformer: patches or frames are projected directly (12B).

    `hidden` is the hidden size, `n_ff` that of the feed-forward network, `n_out` the hidden size of
    the language model. `patch` is the side of a patch in pixels, `merge` the number of patches that
    are pooled to one along each side. `is_wide` tells that the weights of the first convolution are
    BF16, for which mtmd unfolds the input in F32; `standardize` that pooled patches are normalized
    by a mean and a deviation in the file. `n_mel` are the mel bins of audio (or samples, without
    layers), `n_encoded` the outputs of the last layer.
    """

    n_layer: int
    hidden: int
    n_ff: int
    n_head: int
    n_out: int
    patch: int = 16
    merge: int = 3
    is_wide: bool = False
    standardize: bool = False
    n_mel: int = 128
    n_encoded: int = 1536


class _EncoderBuilder:
    """The operations that encoders share.

    Each returns the node of its result, which enters the graph when it or a reader is appended.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.graph, self.encoder = Graph(), encoder

    def multiply_clamped(self, x: Node, n_out: int) -> Node:
        """Return `x` times weights, clamped before and after to the ranges in the file.

        `n_out` replaces the first extent of `x`.
        """
        g = self.graph
        return g.new_like("clamp", g.multiply(g.new_like("clamp", x), n_out))

    def convolve_unfolded(self, x: Node, columns: int, n_positions: int, n_out: int) -> Node:
        """Return a convolution: the `columns` inputs of each position, times the weights."""
        g, ne = self.graph, (columns, n_positions)
        unfolded = Node("im2col", ne, (x,), item_bytes=4 if self.encoder.is_wide else 2)
        out = g.new_op("mul_mat", (n_positions, n_out), g.new_view(unfolded, *ne))
        return g.copy_view(out, n_positions, n_out)


def vision_graph(encoder: Encoder, n_patches: int) -> Graph:
    """Return the graph that encodes one image of `n_patches`."""
    if encoder.n_layer:
        return _VisionBuilder(encoder, n_patches).build_graph()
    return _build_raw_pixels(encoder, n_patches)


class _VisionBuilder(_EncoderBuilder):
    """A vision transformer: a convolution over patches, layers, pooling, projection."""

    def __init__(self, encoder: Encoder, n_patches: int) -> None:
        super().__init__(encoder)
        self.n_patches = n_patches

    def build_graph(self) -> Graph:
        g, encoder, n = self.graph, self.encoder, self.n_patches
        pixels = g.new_like("scale", g.new_input(n * encoder.patch**2 * 3))
        x = self.convolve_unfolded(pixels, encoder.patch**2 * 3, n, encoder.hidden)
        x = g.copy_view(x, encoder.hidden, n)
        self.coordinates = (g.new_input(n), g.new_input(n))
        for position in self.coordinates:
            x = g.new_like("add", x, g.new_op("get_rows", x.ne, position))
        x = g.new_view(x, *x.ne)
        for _ in range(encoder.n_layer):
            x = self._add_layer(x)
        n_pooled = n // encoder.merge**2
        x = g.copy_view(g.new_view(x, *x.ne), n, encoder.hidden)
        x = g.new_op("pool", (n_pooled, encoder.hidden), x)
        x = g.new_like("scale", g.copy_view(x, encoder.hidden, n_pooled))
        if encoder.standardize:
            x = g.new_like("mul", g.new_like("sub", x))
        g.append_node(self.multiply_clamped(g.new_like("rms_norm", x), encoder.n_out))
        return g

    def _add_layer(self, stream: Node) -> Node:
        g, encoder = self.graph, self.encoder
        attended = g.rms_norm(self._add_attention(g.rms_norm(stream)))
        attended = g.new_like("add", attended, stream)
        x = g.rms_norm(attended)
        up, gate = (self.multiply_clamped(x, encoder.n_ff) for _ in range(2))
        out = self.multiply_clamped(g.new_op("glu", gate.ne, gate, up), encoder.hidden)
        return g.new_like("add", attended, g.rms_norm(out))

    def _add_attention(self, x: Node) -> Node:
        g, width, n = self.graph, self.encoder.hidden, self.n_patches
        heads = (width // self.encoder.n_head, self.encoder.n_head, n)
        q, k, v = (g.new_view(self.multiply_clamped(x, width), *heads) for _ in range(3))
        q, k = g.rms_norm(q), g.rms_norm(k)
        for position in self.coordinates:
            q, k = g.new_like("rope", q, position), g.new_like("rope", k, position)
        v = g.new_like("rms_norm", v)
        for node in (q, k, v):
            g.append_node(node)
        k, v = (Node("cast", heads, (g.new_view(x, *heads),), item_bytes=2) for x in (k, v))
        mixed = g.new_op("flash_attn", heads, g.new_view(q, *heads), k, v)
        return self.multiply_clamped(g.new_view(mixed, width, n), width)


def _build_raw_pixels(encoder: Encoder, n_patches: int) -> Graph:
    """Return the graph without layers: patches of `merge` x `merge` of the others, projected."""
    g, columns = Graph(), (encoder.patch * encoder.merge) ** 2 * 3
    # mtmd makes the kernel an input of the graph, although im2col uses only its shape.
    kernel, pixels = g.new_input(columns), g.new_input(n_patches * columns)
    x = g.new_view(g.new_op("im2col", (columns, n_patches), kernel, pixels), columns, n_patches)
    x = _layer_norm(g, x)
    x = g.new_like("add", g.multiply(x, encoder.hidden))
    x = _layer_norm(g, x)
    for position in (g.new_input(n_patches), g.new_input(n_patches)):
        x = g.new_like("add", x, g.new_op("get_rows", x.ne, position))
    x = g.new_like("rms_norm", _layer_norm(g, x))
    g.append_node(g.multiply(x, encoder.n_out))
    return g


def _layer_norm(g: Graph, x: Node) -> Node:
    return g.new_like("add", g.new_like("mul", g.new_like("norm", x)))


def audio_graph(encoder: Encoder, n_frames: int) -> Graph:
    """Return the graph that encodes `n_frames` of audio.

    Frames are mel frames of 10 ms, or raw ones of `n_mel` samples for an encoder without layers.
    """
    if encoder.n_layer:
        return _AudioBuilder(encoder, n_frames).build_graph()
    return _build_raw_audio(encoder, n_frames)


def _build_raw_audio(encoder: Encoder, n_frames: int) -> Graph:
    """Return the graph without layers: frames of samples, projected."""
    g, n_samples = Graph(), encoder.n_mel
    x = g.copy_view(g.new_input(n_frames, n_samples), n_samples, n_frames)
    g.append_node(g.multiply(g.new_like("rms_norm", x), encoder.n_out))
    return g


class _AudioBuilder(_EncoderBuilder):
    """A conformer: two convolutions, then blocks with chunked attention and a convolution."""

    def __init__(self, encoder: Encoder, n_frames: int) -> None:
        super().__init__(encoder)
        self.n_frames = n_frames
        self.n = _halve_extent(_halve_extent(n_frames))
        self.n_chunks = -(-self.n // _CHUNK)

    def build_graph(self) -> Graph:
        g, encoder = self.graph, self.encoder
        x = self._add_subsampling()
        self.relative_positions = g.new_input(encoder.hidden, _PAST + 1)
        self.mask = g.new_input(_SPAN, _CHUNK, self.n_chunks)
        for _ in range(encoder.n_layer):
            stream = self._add_half_step(x)
            attended = g.rms_norm(self._add_attention(g.rms_norm(stream)))
            stream = g.new_like("add", stream, attended)
            stream = g.new_like("add", stream, self._add_convolution(g.rms_norm(stream)))
            x = g.rms_norm(self._add_half_step(stream))
        x = g.new_like("add", self.multiply_clamped(x, encoder.n_encoded))
        g.append_node(self.multiply_clamped(g.new_like("rms_norm", x), encoder.n_out))
        return g

    def _add_subsampling(self) -> Node:
        """Return the input of the blocks: each convolution halves the frames and the mel bins."""
        g, encoder = self.graph, self.encoder
        frames, mel, before = self.n_frames, encoder.n_mel, 1
        x = g.copy_view(g.new_input(frames, mel), mel, frames)
        for channels in _CHANNELS:
            frames, mel = _halve_extent(frames), _halve_extent(mel)
            # Kernels of 3 x 3 over all channels of the layer before.
            x = self.convolve_unfolded(x, 9 * before, mel * frames, channels)
            x = g.new_like("mul", g.new_like("norm", g.copy_view(x, channels, mel * frames)))
            x = g.new_like("unary", g.copy_view(x, mel * frames, channels))
            before = channels
        x = g.copy_view(x, before * mel, frames)
        return self.multiply_clamped(g.new_view(x, before * mel, frames), encoder.hidden)

    def _add_half_step(self, stream: Node) -> Node:
        """Return `stream` plus half of a feed-forward network's result, as twice in each block."""
        g, encoder = self.graph, self.encoder
        inner = g.new_like("unary", self.multiply_clamped(g.rms_norm(stream), encoder.n_ff))
        out = g.rms_norm(self.multiply_clamped(inner, encoder.hidden))
        return g.new_like("add", stream, g.new_like("scale", out))

    def _add_attention(self, x: Node) -> Node:
        g, width, n, n_head = self.graph, self.encoder.hidden, self.n, self.encoder.n_head
        dim, padded = width // n_head, self.n_chunks * _CHUNK
        q, k, v = (g.new_view(self.multiply_clamped(x, width), dim, n_head, n) for _ in range(3))
        q, k = g.new_like("mul", g.new_like("scale", q)), g.new_like("scale", k)
        q = g.new_op("pad", (dim, n_head, padded), q)
        q = g.copy_view(q, dim, _CHUNK, self.n_chunks, n_head)
        k, v = self._add_windows(k, dim), self._add_windows(v, dim)
        scores_ne = (_SPAN, _CHUNK, self.n_chunks, n_head)
        scores = g.new_op("mul_mat", scores_ne, k, q)
        scores = g.new_like("add", scores, self._add_shifted_scores(q, dim))
        for op in ("scale", "unary", "scale"):
            scores = g.new_like(op, scores)
        scores = g.new_like("soft_max", g.new_like("add", scores, self.mask))
        x = g.new_op("mul_mat", (dim, _CHUNK, self.n_chunks, n_head), v, scores)
        x = g.copy_view(x, dim, n_head, _CHUNK, self.n_chunks)
        x = g.new_op("cont", (width, padded), x)
        if padded > n:
            x = g.copy_view(x, width, n)
        return self.multiply_clamped(x, width)

    def _add_windows(self, x: Node, dim: int) -> Node:
        """Return the keys or values of each chunk and of the frames before it, copied together."""
        g, n_head, n_chunks = self.graph, self.encoder.n_head, self.n_chunks
        x = g.new_op("pad", (dim, n_head, _SPAN * n_chunks), x)
        x = g.copy_view(x, dim, n_head, _SPAN, n_chunks)
        return g.copy_view(x, dim, _SPAN, n_chunks, n_head)

    def _add_shifted_scores(self, q: Node, dim: int) -> Node:
        """Return the scores of relative positions, shifted to align with those of the keys."""
        g, n_head, n_chunks = self.graph, self.encoder.n_head, self.n_chunks
        p = g.multiply(self.relative_positions, self.encoder.hidden)
        p = g.copy_view(p, dim, _PAST + 1, n_head)
        flat = g.new_view(q, dim, _CHUNK * n_chunks, n_head)
        x = g.new_op("mul_mat", (_PAST + 1, _CHUNK * n_chunks, n_head), p, flat)
        x = g.new_view(x, _PAST + 1, _CHUNK, n_chunks, n_head)
        x = g.new_op("pad", (_SPAN + 1, _CHUNK, n_chunks, n_head), x)
        x = g.copy_view(x, _CHUNK * _SPAN, n_chunks, n_head)
        return g.new_view(x, _SPAN, _CHUNK, n_chunks, n_head)

    def _add_convolution(self, x: Node) -> Node:
        """Return the convolution of each channel over the frames, with gates before it."""
        g, width, n = self.graph, self.encoder.hidden, self.n
        both = self.multiply_clamped(x, 2 * width)
        gate = g.new_like("unary", g.copy_view(both, width, n))
        x = g.copy_view(g.new_like("mul", g.new_view(both, width, n), gate), n, width)
        x = g.new_op("ssm_conv", (width, n), g.new_op("pad", (n + _KERNEL - 1, width), x))
        x = g.new_like("unary", g.rms_norm(x))
        return self.multiply_clamped(x, width)


def _halve_extent(n: int) -> int:
    """Return the extent after a convolution of width 3 with stride 2 and padding 1."""
    return (n - 1) // 2 + 1

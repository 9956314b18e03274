"""The graphs of Gemma 4's encoders as mtmd builds them, reduced to what decides memory.

Source: tools/mtmd/models/gemma4v.cpp, gemma4uv.cpp, gemma4a.cpp, gemma4ua.cpp and clip_graph::build_vit,
build_attn, build_ffn in tools/mtmd/clip.cpp, llama.cpp@0c1e57098. The order of the calls is theirs: the
allocator's result depends on it. Flash attention is on wherever the backend has it (a CPU does).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from g4cli.estimate.graph import Graph, Node

# Chunked attention of the conformer, gemma4a.cpp: a chunk, what it sees of the past, both.
_CHUNK: Final = 12
_PAST: Final = 12
_SEEN: Final = _CHUNK + _PAST
_CONV: Final = 5  # taps of the depthwise convolution


@dataclass(frozen=True, slots=True)
class Tower:
    """One encoder. `n_layer` 0: raw patches or frames, projected at once (12B).

    `patch` is the side of a patch in pixels, `merge` the patches along each side of a pooled one, `n_out` the
    width of the network that it serves. `is_wide` tells that the first weights are BF16, whose columns mtmd
    unfolds in F32; `channels` are those of the two convolutions over sound.
    """

    n_layer: int
    width: int
    inner: int
    n_head: int
    n_out: int
    patch: int = 16
    merge: int = 3
    is_wide: bool = False
    standardize: bool = False
    channels: tuple[int, int] = (128, 32)
    n_mel: int = 128
    n_encoded: int = 1536


class _Encoder:
    """What the towers share. Every product is clamped on both sides, as the loader's table makes it."""

    def __init__(self, tower: Tower) -> None:
        self.graph, self.tower = Graph(), tower

    def product(self, ne: tuple[int, ...], x: Node) -> Node:
        g = self.graph
        return g.like("clamp", g.op("mul_mat", ne, g.like("clamp", x)))

    def norm(self, x: Node) -> Node:
        return self.graph.like("mul", self.graph.like("rms_norm", x))

    def half(self, op: str, ne: tuple[int, ...], x: Node) -> Node:
        """Return a result of 2 bytes per item."""
        return Node(op, ne, (x,), width=2)

    def cont(self, x: Node, *ne: int) -> Node:
        """Return a copy of `x` in the order of a view of it: what a transposition or permutation costs."""
        return self.graph.op("cont", ne, self.graph.view(x, *ne))

    def convolved(self, x: Node, columns: int, n_places: int, n_out: int) -> Node:
        """Return a convolution: its input unfolded to `columns` values at each place, times the weights."""
        g, ne = self.graph, (columns, n_places)
        unfolded = g.op("im2col", ne, x) if self.tower.is_wide else self.half("im2col", ne, x)
        out = g.op("mul_mat", (n_places, n_out), g.view(unfolded, *ne))
        return self.cont(out, n_places, n_out)


def vision_graph(tower: Tower, n_patches: int) -> Graph:
    """Return the graph of one image of `n_patches`."""
    return _Pixels(tower, n_patches).build() if tower.n_layer else _raw_pixels(tower, n_patches)


class _Pixels(_Encoder):
    def __init__(self, tower: Tower, n_patches: int) -> None:
        super().__init__(tower)
        self.n_patches = n_patches

    def build(self) -> Graph:
        g, tower, n = self.graph, self.tower, self.n_patches
        pixels = g.like("scale", g.input(n * tower.patch**2 * 3))
        x = self.convolved(pixels, tower.patch**2 * 3, n, tower.width)
        x = self.cont(x, tower.width, n)
        self.at = (g.input(n), g.input(n))
        for place in self.at:
            x = g.like("add", x, g.op("get_rows", x.ne, place))
        x = g.view(x, *x.ne)
        for _ in range(tower.n_layer):
            x = self._add_layer(x)
        n_pooled = n // tower.merge**2
        x = g.op("pool", (n_pooled, tower.width), self.cont(g.view(x, *x.ne), n, tower.width))
        x = g.like("scale", self.cont(x, tower.width, n_pooled))
        if tower.standardize:
            x = g.like("mul", g.like("sub", x))
        g.expand(self.product((tower.n_out, n_pooled), g.like("rms_norm", x)))
        return g

    def _add_layer(self, stream: Node) -> Node:
        g, n = self.graph, self.n_patches
        attended = g.like("add", self.norm(self._add_attention(self.norm(stream))), stream)
        x = self.norm(attended)
        up, gate = self.product((self.tower.inner, n), x), self.product((self.tower.inner, n), x)
        out = self.product((self.tower.width, n), g.op("glu", gate.ne, gate, up))
        return g.like("add", attended, self.norm(out))

    def _add_attention(self, x: Node) -> Node:
        g, width, n = self.graph, self.tower.width, self.n_patches
        heads = (width // self.tower.n_head, self.tower.n_head, n)
        q, k, v = (g.view(self.product((width, n), x), *heads) for _ in range(3))
        q, k = self.norm(q), self.norm(k)
        for place in self.at:
            q = g.like("rope", q, place)
        for place in self.at:
            k = g.like("rope", k, place)
        v = g.like("rms_norm", v)
        for node in (q, k, v):
            g.expand(node)
        k, v = (self.half("cast", heads, g.view(node, *heads)) for node in (k, v))
        mixed = g.op("flash_attn", heads, g.view(q, *heads), k, v)
        return self.product((width, n), g.view(mixed, width, n))


def _raw_pixels(tower: Tower, n_patches: int) -> Graph:
    encoder = _Encoder(tower)
    g, columns = encoder.graph, (tower.patch * tower.merge) ** 2 * 3
    # The kernel is a tensor of the graph, though only its shape is looked at.
    kernel, pixels = g.input(columns), g.input(n_patches * columns)
    x = g.view(g.op("im2col", (columns, n_patches), kernel, pixels), columns, n_patches)
    x = _layer_norm(g, x)
    x = g.like("add", g.op("mul_mat", (tower.width, n_patches), x))
    x = _layer_norm(g, x)
    for place in (g.input(n_patches), g.input(n_patches)):
        x = g.like("add", x, g.op("get_rows", x.ne, place))
    x = g.like("rms_norm", _layer_norm(g, x))
    g.expand(g.op("mul_mat", (tower.n_out, n_patches), x))
    return g


def _layer_norm(g: Graph, x: Node) -> Node:
    return g.like("add", g.like("mul", g.like("norm", x)))


def audio_graph(tower: Tower, n_frames: int) -> Graph:
    """Return the graph of `n_frames` of sound: mel frames of 10 ms, or raw ones of `n_mel` samples."""
    return _Sound(tower, n_frames).build() if tower.n_layer else _raw_sound(tower, n_frames)


def _raw_sound(tower: Tower, n_frames: int) -> Graph:
    encoder = _Encoder(tower)
    g = encoder.graph
    x = g.like("rms_norm", encoder.cont(g.input(n_frames, tower.n_mel), tower.n_mel, n_frames))
    g.expand(g.op("mul_mat", (tower.n_out, n_frames), x))
    return g


class _Sound(_Encoder):
    """A conformer: two convolutions, then blocks of feed-forward, chunked attention, convolution."""

    def __init__(self, tower: Tower, n_frames: int) -> None:
        super().__init__(tower)
        self.n_frames = n_frames
        self.n = _halve_extent(_halve_extent(n_frames))
        self.n_chunks = -(-self.n // _CHUNK)

    def build(self) -> Graph:
        g, tower = self.graph, self.tower
        x = self._add_subsampling()
        self.places = g.input(tower.width, _PAST + 1)
        self.mask = g.input(_SEEN, _CHUNK, self.n_chunks)
        for _ in range(tower.n_layer):
            stream = self._add_half_step(x, x)
            stream = g.like("add", stream, self.norm(self._add_attention(self.norm(stream))))
            stream = g.like("add", stream, self._add_convolution(self.norm(stream)))
            x = self.norm(self._add_half_step(stream, stream))
        x = g.like("add", self.product((tower.n_encoded, self.n), x))
        g.expand(self.product((tower.n_out, self.n), g.like("rms_norm", x)))
        return g

    def _add_subsampling(self) -> Node:
        g, tower = self.graph, self.tower
        frames, mel, before = self.n_frames, tower.n_mel, 1
        x = self.cont(g.input(frames, mel), mel, frames)
        for channels in tower.channels:
            frames, mel = _halve_extent(frames), _halve_extent(mel)
            x = self.convolved(x, 9 * before, mel * frames, channels)
            x = g.like("mul", g.like("norm", self.cont(x, channels, mel * frames)))
            x = g.like("unary", self.cont(x, mel * frames, channels))
            before = channels
        x = self.cont(x, before * mel, frames)
        return self.product((tower.width, self.n), g.view(x, before * mel, frames))

    def _add_half_step(self, x: Node, stream: Node) -> Node:
        g, n = self.graph, self.n
        inner = g.like("unary", self.product((self.tower.inner, n), self.norm(x)))
        out = self.norm(self.product((self.tower.width, n), inner))
        return g.like("add", stream, g.like("scale", out))

    def _add_attention(self, x: Node) -> Node:
        g, width, n, n_head = self.graph, self.tower.width, self.n, self.tower.n_head
        dim, padded = width // n_head, self.n_chunks * _CHUNK
        q, k, v = (g.view(self.product((width, n), x), dim, n_head, n) for _ in range(3))
        q, k = g.like("mul", g.like("scale", q)), g.like("scale", k)
        q = self.cont(g.op("pad", (dim, n_head, padded), q), dim, _CHUNK, self.n_chunks, n_head)
        k, v = self._add_windows(k, dim), self._add_windows(v, dim)
        scores_ne = (_SEEN, _CHUNK, self.n_chunks, n_head)
        scores = g.op("mul_mat", scores_ne, k, q)
        scores = g.like("add", scores, self._add_shifted_scores(q, dim))
        for op in ("scale", "unary", "scale"):
            scores = g.like(op, scores)
        scores = g.like("soft_max", g.like("add", scores, self.mask))
        x = g.op("mul_mat", (dim, _CHUNK, self.n_chunks, n_head), v, scores)
        x = self.cont(x, dim, n_head, _CHUNK, self.n_chunks)
        x = g.op("cont", (width, padded), x)
        if padded > n:
            x = g.op("cont", (width, n), g.view(x, width, n))
        return self.product((width, n), x)

    def _add_windows(self, x: Node, dim: int) -> Node:
        """Return keys or values of each chunk and its past, copied side by side."""
        g, n_head, n_chunks = self.graph, self.tower.n_head, self.n_chunks
        x = g.op("pad", (dim, n_head, _SEEN * n_chunks), x)
        x = g.op("cont", (dim, n_head, _SEEN, n_chunks), g.view(x, dim, n_head, _SEEN, n_chunks))
        return self.cont(x, dim, _SEEN, n_chunks, n_head)

    def _add_shifted_scores(self, q: Node, dim: int) -> Node:
        """Return the scores of relative places, shifted so that they meet those of the contents."""
        g, n_head, n_chunks, width = self.graph, self.tower.n_head, self.n_chunks, self.tower.width
        p = g.op("mul_mat", (width, _PAST + 1), self.places)
        p = self.cont(p, dim, _PAST + 1, n_head)
        flat = g.view(q, dim, _CHUNK * n_chunks, n_head)
        x = g.op("mul_mat", (_PAST + 1, _CHUNK * n_chunks, n_head), p, flat)
        x = g.op(
            "pad",
            (_SEEN + 1, _CHUNK, n_chunks, n_head),
            g.view(x, _PAST + 1, _CHUNK, n_chunks, n_head),
        )
        x = self.cont(x, _CHUNK * _SEEN, n_chunks, n_head)
        return g.view(x, _SEEN, _CHUNK, n_chunks, n_head)

    def _add_convolution(self, x: Node) -> Node:
        g, width, n = self.graph, self.tower.width, self.n
        both = self.product((2 * width, n), x)
        gate = g.like("unary", self.cont(both, width, n))
        x = self.cont(g.like("mul", g.view(both, width, n), gate), n, width)
        x = g.op("ssm_conv", (width, n), g.op("pad", (n + _CONV - 1, width), x))
        x = g.like("unary", self.norm(x))
        return self.product((width, n), x)


def _halve_extent(n: int) -> int:
    """Return the extent after a convolution of 3 with a stride of 2 and a margin of 1."""
    return (n - 1) // 2 + 1

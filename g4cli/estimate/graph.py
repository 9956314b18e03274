"""A computation graph without numbers, and the memory that ggml's allocator would give it.

Only what decides memory is kept: sizes, who reads whom, and which results are views. Weights and caches are
external and therefore absent; a node that writes into them has no bytes of its own.

Source: ggml/src/ggml-alloc.c (ggml_gallocr_alloc_graph_impl, ggml_dyn_tallocr_*) and the walk of
ggml_build_forward_expand in ggml/src/ggml.c, llama.cpp@0c1e57098.
"""

from __future__ import annotations

from math import prod
from typing import Final

CPU_ALIGNMENT: Final = 32
"""TENSOR_ALIGNMENT, ggml/src/ggml-impl.h."""

# ggml_op_can_inplace, ggml/src/ggml-alloc.c; of its operations, those that Gemma 4 uses
IN_PLACE: Final = frozenset(
    {"scale", "add", "sub", "mul", "div", "unary", "rope", "rms_norm", "clamp", "soft_max"}
)
# Beyond every product of the numbers that a file may name (each below 2^21).
_ENDLESS: Final = 1 << 400


class Node:
    """A tensor of the graph. `root` is the tensor that a view looks into; `own` tells if it needs memory."""

    __slots__ = ("address", "allocated", "children", "is_input", "is_output", "nbytes", "ne", "op", "own",
                 "root", "src", "views", "visited")  # fmt: skip

    def __init__(
        self,
        op: str,
        ne: tuple[int, ...],
        src: tuple[Node, ...] = (),
        *,
        width: int = 4,
        own: bool = True,
    ) -> None:
        self.op, self.ne, self.src, self.own = op, ne, src, own
        self.nbytes = prod(ne) * width
        self.root: Node | None = None
        self.is_input = self.is_output = self.visited = self.allocated = False
        self.children = self.views = self.address = 0


class Graph:
    """Nodes and leaves in the order in which ggml visits them."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.leaves: list[Node] = []

    def input(self, *ne: int, width: int = 4) -> Node:
        """Return a new input of `width` bytes per item."""
        node = Node("input", ne, width=width)
        node.is_input = True
        return node

    def op(self, op: str, ne: tuple[int, ...], *src: Node) -> Node:
        """Return the result of an operation, 4 bytes per item."""
        return Node(op, ne, src)

    def like(self, op: str, first: Node, *rest: Node) -> Node:
        """Return the result of an operation that keeps the shape of its first source."""
        return Node(op, first.ne, (first, *rest))

    def view(self, of: Node, *ne: int) -> Node:
        """Return another look at the bytes of `of`: a reshape, a slice or a permutation."""
        node = Node("view", ne, (of,))
        node.root = of.root or of
        return node

    def store(self, *src: Node) -> Node:
        """Return a write into memory outside the graph (the KV cache)."""
        return Node("store", (0,), src, own=False)

    def expand(self, node: Node) -> None:
        """Append `node` after everything that it reads, depth first, left to right."""
        if node.visited:
            return
        node.visited = True
        for source in node.src:
            self.expand(source)
        (self.leaves if node.is_input else self.nodes).append(node)


def graph_bytes(graph: Graph, alignment: int = CPU_ALIGNMENT) -> int:
    """Return the size of the one buffer that holds every intermediate result of `graph`."""
    arena = _Arena(alignment)
    for leaf in graph.leaves:
        arena.give(leaf)
    for node in graph.nodes:
        if node.root:
            node.root.views += 1
        for source in node.src:
            source.children += 1
    for node in graph.nodes:
        if node.own and not node.root:
            _allocate_node(arena, node)
        for source in node.src:
            source.children -= 1
            if source.children or source.views:
                continue
            root = source.root
            if root:
                root.views -= 1
                if not root.views and not root.children and root.allocated:
                    arena.take_back(root)
            elif source.allocated:
                arena.take_back(source)
    return arena.peak


def _allocate_node(arena: _Arena, node: Node) -> None:
    """Let `node` take over a source that nobody else reads, or give it memory of its own."""
    if node.op in IN_PLACE:
        for source in node.src:
            if (
                source.allocated
                and not source.is_output
                and source.ne == node.ne
                and source.nbytes == node.nbytes
                and source.children == 1
                and not source.views
            ):
                node.address, node.allocated, source.allocated = source.address, True, False
                return
    arena.give(node)


class _Arena:
    """Best fit over free blocks sorted by address; the last block is endless and grows the buffer."""

    def __init__(self, alignment: int) -> None:
        self.alignment = alignment
        self.blocks: list[list[int]] = [[0, _ENDLESS]]  # address, size
        self.peak = 0

    def give(self, node: Node) -> None:
        """Find a place for `node`."""
        size = self._pad_size(node.nbytes)
        best, best_size = len(self.blocks) - 1, _ENDLESS
        for index in range(len(self.blocks) - 1):
            if size <= self.blocks[index][1] <= best_size:
                best, best_size = index, self.blocks[index][1]
        block = self.blocks[best]
        node.address, node.allocated = block[0], True
        block[0] += size
        block[1] -= size
        if not block[1]:
            del self.blocks[best]
        self.peak = max(self.peak, node.address + size)

    def take_back(self, node: Node) -> None:
        """Free the place of `node`, unless it is a result of the graph."""
        if node.is_output:
            return
        node.allocated = False
        start, size, blocks = node.address, self._pad_size(node.nbytes), self.blocks
        for index, block in enumerate(blocks):
            if block[0] + block[1] == start:
                block[1] += size
                if index + 1 < len(blocks) and block[0] + block[1] == blocks[index + 1][0]:
                    block[1] += blocks.pop(index + 1)[1]
                return
            if start + size == block[0]:
                block[0], block[1] = start, block[1] + size
                if index and blocks[index - 1][0] + blocks[index - 1][1] == start:
                    blocks[index - 1][1] += blocks.pop(index)[1]
                return
        place = next(i for i, block in enumerate(blocks) if block[0] >= start)
        blocks.insert(place, [start, size])

    def _pad_size(self, n: int) -> int:
        return -(-n // self.alignment) * self.alignment

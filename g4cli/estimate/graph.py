"""A computation graph without numbers, and a simulation of the allocator that ggml runs on it.

ggml plans one buffer for all intermediate results of a graph. It visits the nodes in the order of
their computation, gives each the smallest free block that is large enough, lets an element-wise
operation overwrite an input that no later node reads, and frees a result after its last reader. The
highest end of a block is the size of the buffer. So the graph here keeps only what decides that:
sizes, sources, views, and the order of nodes. Weights and KV caches have buffers of their own and
are absent; a node that writes into them has no bytes.

Source: ggml/src/ggml-alloc.c (ggml_gallocr_alloc_graph_impl, ggml_dyn_tallocr_*) and the walk of
ggml_build_forward_expand in ggml/src/ggml.c, llama.cpp@0c1e57098.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from math import prod
from typing import Final

from g4cli.core.ggml import round_up

CPU_ALIGNMENT: Final = 32
"""TENSOR_ALIGNMENT, ggml/src/ggml-impl.h."""

# Operations that may overwrite their input: those of ggml_op_can_inplace, ggml/src/ggml-alloc.c,
# that Gemma 4 uses.
IN_PLACE: Final = frozenset(
    {"scale", "add", "sub", "mul", "div", "unary", "rope", "rms_norm", "clamp", "soft_max"}
)
# Larger than any product of the extents that a file may declare (each below 2^21).
_ENDLESS: Final = 1 << 400


@dataclass(eq=False, repr=False, slots=True)
class Node:
    """A tensor of the graph.

    `ne` are its extents, the fastest first, `item_bytes` the size of an element. `src` are the
    tensors that it reads. `op` is ggml's operation, or "input", "view" or "store" (a write into
    memory outside of the buffer). `root` is the tensor whose bytes a view shows. `children` and
    `views` count, as in ggml, the nodes that still have to read it and the views of it that are
    still in use; `address` is its offset in the buffer, while it is `allocated`.
    """

    op: str
    ne: tuple[int, ...]
    src: tuple[Node, ...] = ()
    item_bytes: int = 4
    root: Node | None = None
    is_output: bool = False
    visited: bool = False
    allocated: bool = False
    children: int = 0
    views: int = 0
    address: int = 0
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.nbytes = prod(self.ne) * self.item_bytes


class Graph:
    """Nodes and leaves in the order in which ggml visits them."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.leaves: list[Node] = []

    def new_input(self, *ne: int, item_bytes: int = 4) -> Node:
        """Return a new input with elements of `item_bytes` bytes."""
        return Node("input", ne, item_bytes=item_bytes)

    def new_op(self, op: str, ne: tuple[int, ...], *src: Node) -> Node:
        """Return the result of the operation `op` on `src`, with elements of 4 bytes."""
        return Node(op, ne, src)

    def new_like(self, op: str, first: Node, *rest: Node) -> Node:
        """Return the result of an operation that keeps the shape of its first source."""
        return Node(op, first.ne, (first, *rest))

    def multiply(self, x: Node, n_out: int) -> Node:
        """Return the product of `x` and a matrix outside the graph (weights, a cache).

        `n_out` replaces the first extent of `x`.
        """
        return Node("mul_mat", (n_out, *x.ne[1:]), (x,))

    def rms_norm(self, x: Node) -> Node:
        """Return `x` normalized and multiplied by the norm's weights."""
        return self.new_like("mul", self.new_like("rms_norm", x))

    def new_view(self, of: Node, *ne: int) -> Node:
        """Return a view of `of` with the extents `ne`: a reshape, a slice or a permutation."""
        return Node("view", ne, (of,), root=of.root or of)

    def copy_view(self, of: Node, *ne: int) -> Node:
        """Return a contiguous copy of a view of `of` with the extents `ne`."""
        return Node("cont", ne, (self.new_view(of, *ne),))

    def new_store(self, *src: Node) -> Node:
        """Return a write into memory outside the graph: the KV cache."""
        return Node("store", (0,), src)

    def append_node(self, node: Node) -> None:
        """Append `node` after all that it reads, depth first (ggml_build_forward_expand)."""
        if node.visited:
            return
        node.visited = True
        for source in node.src:
            self.append_node(source)
        (self.leaves if node.op == "input" else self.nodes).append(node)


def graph_bytes(graph: Graph, alignment: int = CPU_ALIGNMENT) -> int:
    """Return the bytes of the buffer that holds the intermediate results of `graph`.

    Sizes and addresses are multiples of `alignment` bytes.
    """
    arena = _Arena(alignment)
    # Inputs are written before the graph runs, so none may share a block with a result.
    for leaf in graph.leaves:
        arena.allocate_node(leaf)
    # As in ggml, all readers are counted before the first node is allocated.
    for node in graph.nodes:
        if node.root:
            node.root.views += 1
        for source in node.src:
            source.children += 1
    for node in graph.nodes:
        if node.op != "store" and not node.root:
            _allocate_node(arena, node)
        for source in node.src:
            source.children -= 1
            if source.children or source.views:
                continue
            root = source.root
            if root:
                root.views -= 1
                if not root.views and not root.children and root.allocated:
                    arena.free_node(root)
            elif source.allocated:
                arena.free_node(source)
    return arena.peak


def _allocate_node(arena: _Arena, node: Node) -> None:
    """Let `node` overwrite a source that no other node reads, or allocate a block for it."""
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
    arena.allocate_node(node)


class _Arena:
    """ggml's allocator: best fit over free blocks, sorted by address.

    The last block has no end: taking from it grows the buffer. `peak` is the largest size that the
    buffer had.
    """

    def __init__(self, alignment: int) -> None:
        self.alignment = alignment
        self.blocks: list[list[int]] = [[0, _ENDLESS]]  # address, size
        self.peak = 0

    def allocate_node(self, node: Node) -> None:
        """Allocate the smallest free block that holds `node`; of equal ones the last."""
        size = round_up(node.nbytes, self.alignment)
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

    def free_node(self, node: Node) -> None:
        """Free the block of `node` and merge it with free neighbors; outputs are never freed."""
        if node.is_output:
            return
        node.allocated = False
        start, size, blocks = node.address, round_up(node.nbytes, self.alignment), self.blocks
        index = bisect_left(blocks, [start])  # of the next free block: there is one without an end
        if start + size == blocks[index][0]:
            blocks[index] = [start, size + blocks[index][1]]
        else:
            blocks.insert(index, [start, size])
        if index and sum(blocks[index - 1]) == start:
            blocks[index - 1][1] += blocks.pop(index)[1]

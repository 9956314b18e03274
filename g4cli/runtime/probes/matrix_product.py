"""Single matrix products in ggml, without a model, for kernel_child.py and read_rate_child.py.

All `int` arguments named after a C object are its address: a backend, a buffer type (`buft`), a
tensor. The functions check nothing: they run in a child process, which a bad kernel may kill.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from g4cli.runtime.llama.devices import declare_functions, load_ggml
from g4cli.runtime.llama.graph_tensor import F32


class _InitParams(ctypes.Structure):
    """struct ggml_init_params, ggml/include/ggml.h."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class _TensorHead(ctypes.Structure):
    # The first two fields of struct ggml_tensor, ggml/include/ggml.h.
    _fields_ = (("type", ctypes.c_int), ("buffer", ctypes.c_void_p))


def load_matrix_functions() -> Any:
    """Return libggml with the functions declared that compute one matrix product."""
    library = load_ggml()
    p, n, i = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64  # pointer, size, ggml's integer
    declare_functions(
        library,
        ("ggml_init", p, [_InitParams]),
        ("ggml_free", None, [p]),
        ("ggml_new_tensor_2d", p, [p, ctypes.c_int, i, i]),
        ("ggml_mul_mat", p, [p, p, p]),
        ("ggml_new_graph", p, [p]),
        ("ggml_build_forward_expand", None, [p, p]),
        ("ggml_backend_init_by_type", p, [ctypes.c_int, ctypes.c_char_p]),
        ("ggml_backend_dev_init", p, [p, ctypes.c_char_p]),
        ("ggml_backend_free", None, [p]),
        ("ggml_backend_get_device", p, [p]),
        ("ggml_backend_dev_backend_reg", p, [p]),
        ("ggml_backend_reg_get_proc_address", p, [p, ctypes.c_char_p]),
        ("ggml_backend_dev_supports_op", ctypes.c_bool, [p, p]),
        ("ggml_backend_get_default_buffer_type", p, [p]),
        ("ggml_backend_buft_alloc_buffer", p, [p, n]),
        ("ggml_backend_buft_get_alloc_size", n, [p, p]),
        ("ggml_backend_buffer_get_base", p, [p]),
        ("ggml_backend_buffer_free", None, [p]),
        ("ggml_backend_buffer_clear", None, [p, ctypes.c_uint8]),
        ("ggml_backend_tensor_alloc", ctypes.c_int, [p, p, p]),
        ("ggml_backend_tensor_set", None, [p, p, n, n]),
        ("ggml_backend_tensor_get", None, [p, p, n, n]),
        ("ggml_backend_graph_compute", ctypes.c_int, [p, p]),
    )
    return library


def list_extra_bufts(ggml: Any, cpu: int) -> list[int]:
    """Return the extra buffer types (AMX, repacking) of the CPU backend `cpu`.

    As make_cpu_buft_list in src/llama-model.cpp finds them, llama.cpp@0c1e57098.
    """
    device = ggml.ggml_backend_get_device(cpu)
    registry = ggml.ggml_backend_dev_backend_reg(device)
    address = ggml.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
    if not address:
        return []
    listing = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)(device)
    bufts: list[int] = []
    while listing and listing[len(bufts)]:  # a zero ends the list
        bufts.append(listing[len(bufts)])
    return bufts


class Product(NamedTuple):
    """The tensors of y = W x, allocated, in the `graph` that computes them.

    `buft` is the buffer type that W is in; x and y are in plain memory.
    """

    w: int
    x: int
    y: int
    graph: int
    buft: int


@contextlib.contextmanager
def allocate_product(
    ggml: Any, backend: int, type_id: int, extents: tuple[int, int, int], bufts: Sequence[int]
) -> Iterator[Product]:
    """Yield a product, which is freed at the end of the block.

    `extents`: columns and rows of W, and columns of x. W has the type `type_id` and lies in the
    first of `bufts` that takes it, in plain memory if none does; x and y are F32.
    """
    n_columns, n_rows, n_batch = extents
    # 1 MiB for the tensors' headers and the graph; with no_alloc no values are stored there.
    context = ggml.ggml_init(_InitParams(1 << 20, None, True))
    w = ggml.ggml_new_tensor_2d(context, type_id, n_columns, n_rows)
    x = ggml.ggml_new_tensor_2d(context, F32, n_columns, n_batch)
    y = ggml.ggml_mul_mat(context, w, x)
    plain = ggml.ggml_backend_get_default_buffer_type(backend)
    buft = next((b for b in bufts if _accepts_weight(ggml, backend, b, w, y)), plain)
    buffers = [_allocate_tensor(ggml, *pair) for pair in ((w, buft), (x, plain), (y, plain))]
    graph = ggml.ggml_new_graph(context)
    ggml.ggml_build_forward_expand(graph, y)
    yield Product(w, x, y, graph, buft)
    for buffer in buffers:
        ggml.ggml_backend_buffer_free(buffer)
    ggml.ggml_free(context)


def _accepts_weight(ggml: Any, backend: int, buft: int, weight: int, product: int) -> bool:
    """Return whether `backend` computes `product` from a `weight` in a buffer of type `buft`.

    `product` is the result tensor of ggml_mul_mat, `weight` its matrix.
    """
    # As weight_buft_supported in src/llama-model-loader.cpp does it: in an empty buffer, since only
    # the buffer's type is looked at.
    head = _TensorHead.from_address(weight)
    head.buffer = ggml.ggml_backend_buft_alloc_buffer(buft, 0)
    answer = bool(ggml.ggml_backend_dev_supports_op(ggml.ggml_backend_get_device(backend), product))
    ggml.ggml_backend_buffer_free(head.buffer)
    head.buffer = None
    return answer


def _allocate_tensor(ggml: Any, tensor: int, buft: int) -> int:
    """Put `tensor` into a new buffer of type `buft`, whose bytes are all 1; return the buffer."""
    size = ggml.ggml_backend_buft_get_alloc_size(buft, tensor)
    buffer = ggml.ggml_backend_buft_alloc_buffer(buft, size)
    ggml.ggml_backend_tensor_alloc(buffer, tensor, ggml.ggml_backend_buffer_get_base(buffer))
    ggml.ggml_backend_buffer_clear(buffer, 1)
    return int(buffer)

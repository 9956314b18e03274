"""Tensors of a computation graph, as llama.cpp's evaluation callback gets them.

llama.cpp calls `cb_eval` of its context parameters around each operation of the graph, with the
address of a `struct ggml_tensor`. Its fields are read in place; data in the memory of a GPU is
copied. measure/activations.py, which computes importance matrices, uses this.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import RuntimeFailed
from g4cli.runtime.llama.devices import declare_functions, load_ggml
from g4cli.runtime.llama.installation import install_command

_OBJECT_BYTES: Final = 32  # sizeof(struct ggml_object), which stands before each tensor
F32: Final = 0  # enum ggml_type


class GraphTensor(ctypes.Structure):
    """struct ggml_tensor, ggml/include/ggml.h, llama.cpp@0c1e57098.

    `ne` counts elements, `nb` is the distance in bytes from one to the next, both by dimension,
    the fastest first. Array sizes: GGML_MAX_DIMS, _MAX_OP_PARAMS / 4, _MAX_SRC and _MAX_NAME.
    """

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )

    def find_source(self, index: int) -> GraphTensor:
        """Return an operand of the operation."""
        return GraphTensor.from_address(self.src[index])

    @property
    def plain_name(self) -> str:
        """The name of the weight. ggml names its copy on a GPU CUDA0#blk.0.attn_k.weight#0."""
        parts: list[str] = self.name.decode("utf-8", "replace").split("#")
        return parts[0] if len(parts) == 1 else parts[1]


OP_OFFSET: Final = GraphTensor.op.offset  # to read the operation alone, for each tensor of a graph


@cache
def find_operation(name: str) -> int:
    """Return ggml's number of the operation `name` ("MUL_MAT").

    Raises RuntimeFailed if this build knows no such operation, or has another `ggml_tensor`.
    """
    ggml = _load_functions()
    if ggml.ggml_tensor_overhead() != _OBJECT_BYTES + ctypes.sizeof(GraphTensor):
        raise RuntimeFailed(
            "this build of llama.cpp has other tensors than g4 was made for", hint=install_command()
        )
    # ggml aborts if it is asked for a number beyond GGML_OP_COUNT (101): 64 are enough
    # for MUL_MAT and MUL_MAT_ID, and safe.
    for number in range(64):
        if ggml.ggml_op_name(number) == name.encode():
            return number
    raise RuntimeFailed(f"this build of llama.cpp has no operation {name}", hint=install_command())


def read_values(tensor: GraphTensor, dtype: type[np.generic]) -> NDArray[Any]:
    """Return the values as an array of shape (ne[3], ne[2], ne[1], ne[0]).

    It is a view where the data is in host memory: valid until the callback returns.
    """
    ggml = _load_functions()
    n_bytes = int(ggml.ggml_nbytes(ctypes.addressof(tensor)))
    if ggml.ggml_backend_buffer_is_host(tensor.buffer):
        data: Any = (ctypes.c_char * n_bytes).from_address(tensor.data)
    else:
        data = bytearray(n_bytes)
        target = (ctypes.c_char * n_bytes).from_buffer(data)
        ggml.ggml_backend_tensor_get(ctypes.addressof(tensor), target, 0, n_bytes)
    values: NDArray[Any] = np.ndarray(
        tuple(tensor.ne)[::-1], dtype, data, 0, tuple(tensor.nb)[::-1]
    )
    return values


@cache
def _load_functions() -> Any:
    ggml, size, pointer = load_ggml(), ctypes.c_size_t, ctypes.c_void_p
    declare_functions(
        ggml,
        ("ggml_tensor_overhead", size, []),
        ("ggml_op_name", ctypes.c_char_p, [ctypes.c_int]),
        ("ggml_nbytes", size, [pointer]),
        ("ggml_backend_buffer_is_host", ctypes.c_bool, [pointer]),
        ("ggml_backend_tensor_get", None, [pointer, pointer, size, size]),
    )
    return ggml

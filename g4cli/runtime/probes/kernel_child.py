"""The child of the kernel probe: tries ggml's matrix products one by one. Each may crash it.

    python -m g4cli.runtime.probes.kernel_child LAYOUT TYPE...

LAYOUT is plain or extra (see kernels.py). It prints {"start": TYPE} before and {"status", "detail"}
after each, which shows the parent where it crashed.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from g4cli.runtime.probes.kernels import TYPES
from g4cli.runtime.probes.matrix_product import (
    allocate_product,
    list_extra_bufts,
    load_matrix_functions,
)

# The names of functions such as dequantize_row_q4_K keep a capital K.
_SYMBOL: Final = MappingProxyType({"Q4_K": "q4_K", "Q5_K": "q5_K", "Q6_K": "q6_K"})
# Row length, rows, and batch sizes: one token (matrix x vector) and a prompt (matrix x matrix). Two
# blocks of the K types in a row, and more rows than any kernel computes at once.
_COLUMNS, _ROWS, _BATCHES = 512, 64, (1, 32)
# Products round their inputs to 8 bits; a broken kernel is wrong by its whole value.
_TOLERANCE: Final = 0.03  # a choice: several times the error of that rounding


def main(args: Sequence[str]) -> None:
    """Try the products named on the command line and print a line before and after each."""
    layout, types = args[0], args[1:]
    ggml = load_matrix_functions()
    cpu = ggml.ggml_backend_init_by_type(0, None)  # GGML_BACKEND_DEVICE_TYPE_CPU
    bufts = list_extra_bufts(ggml, cpu) if layout == "extra" else [None]
    for name in types:
        print(json.dumps({"start": name}), flush=True)
        errors = [error for buft in bufts for error in _try_type(ggml, cpu, name, buft)]
        print(json.dumps(judge_errors(errors)), flush=True)


def judge_errors(errors: Sequence[float]) -> dict[str, str]:
    """Return "status" and "detail" (kernels.Product) of products with these relative errors."""
    if not errors:
        return {"status": "absent", "detail": ""}
    worst = np.max(errors)  # NaN if one is, unlike Python's
    status = "ok" if worst < _TOLERANCE else "wrong"
    return {"status": status, "detail": f"relative error {worst:.4f}"}


def _try_type(ggml: Any, cpu: int, name: str, buft: int | None) -> list[float]:
    """Return the relative errors of y = W x for random W and x, one per batch size.

    W has the type `name` and lies in a buffer of type `buft` (None: plain memory). The result is
    empty if that buffer type does not take such a weight.
    """
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((_ROWS, _COLUMNS), dtype=np.float32)
    type_id, errors = TYPES[name], list[float]()
    for batch in _BATCHES:
        inputs = rng.standard_normal((batch, _COLUMNS), dtype=np.float32)
        result = np.empty((batch, _ROWS), np.float32)
        extents, bufts = (_COLUMNS, _ROWS, batch), [] if buft is None else [buft]
        with allocate_product(ggml, cpu, type_id, extents, bufts) as product:
            if buft is not None and product.buft != buft:
                return []
            encoded = ctypes.create_string_buffer(ggml.ggml_nbytes(product.w))
            ggml.ggml_quantize_chunk(
                type_id, weights.ctypes.data, encoded, 0, _ROWS, _COLUMNS, None
            )
            ggml.ggml_backend_tensor_set(product.w, encoded, 0, len(encoded))
            ggml.ggml_backend_tensor_set(product.x, inputs.ctypes.data, 0, inputs.nbytes)
            ggml.ggml_backend_graph_compute(cpu, product.graph)
            ggml.ggml_backend_tensor_get(product.y, result.ctypes.data, 0, result.nbytes)
        decoded = _dequantize_weights(ggml, name, encoded).astype(np.float64)
        expected = inputs.astype(np.float64) @ decoded.T
        errors.append(float(np.linalg.norm(result - expected) / np.linalg.norm(expected)))
    return errors


def _dequantize_weights(ggml: Any, name: str, encoded: Any) -> Any:
    """Return the values of `encoded`, which has the type `name`: float, shape (rows, columns)."""
    if name == "F32":
        return np.frombuffer(encoded, np.float32).reshape(_ROWS, _COLUMNS)
    if name == "F16":
        return np.frombuffer(encoded, np.float16).reshape(_ROWS, _COLUMNS)
    if name == "BF16":
        wide = np.frombuffer(encoded, np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(_ROWS, _COLUMNS)
    out = np.empty((_ROWS, _COLUMNS), np.float32)
    decode = getattr(ggml, f"dequantize_row_{_SYMBOL.get(name, name.lower())}")
    decode.restype, decode.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    decode(encoded, out.ctypes.data, out.size)
    return out


if __name__ == "__main__":
    main(sys.argv[1:])

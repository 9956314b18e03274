"""The child of the kernel probe: tries ggml's matrix products one by one. Each may crash it.

    python -m g4cli.runtime.probes.kernel_child LAYOUT TYPE...

LAYOUT is plain or extra, TYPE a name such as Q4_0 (see kernels.py). It prints {"type", "status",
"detail"} after each product: so the parent knows at which type the child crashed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from g4cli.core.ggml import GGMLType, ggml_type
from g4cli.quant.native import decode_rows, encode_rows
from g4cli.runtime.probes.matrix_product import (
    allocate_product,
    list_extra_bufts,
    load_matrix_functions,
)

_COLUMNS: Final = 512  # two blocks of the K types, which have 256 weights each
_ROWS: Final = 64  # more than any kernel computes at once
# One token and a prompt: ggml has other kernels for a matrix x vector than for matrix x matrix.
_BATCHES: Final = (1, 32)
# Kernels round their inputs to 8 bits; the result of a broken one is wrong by its whole value.
_TOLERANCE: Final = 0.03  # relative; a choice: several times the error of that rounding


def main(args: Sequence[str]) -> None:
    """Try the products named on the command line in that order, and print a line after each."""
    layout, types = args[0], args[1:]
    ggml = load_matrix_functions()
    cpu = ggml.ggml_backend_init_by_type(0, None)  # GGML_BACKEND_DEVICE_TYPE_CPU
    bufts = list_extra_bufts(ggml, cpu) if layout == "extra" else [None]
    for name in types:
        kind = ggml_type(name)
        errors = [error for buft in bufts for error in _try_type(ggml, cpu, kind, buft)]
        print(json.dumps({"type": name, **judge_errors(errors)}), flush=True)


def judge_errors(errors: Sequence[float]) -> dict[str, str]:
    """Return "status" and "detail" of a kernels.Product, given the relative errors of _try_type.

    There is no error if no buffer type takes such a weight.
    """
    if not errors:
        return {"status": "absent", "detail": ""}
    worst = np.max(errors)  # NaN if one is, unlike Python's
    status = "ok" if worst < _TOLERANCE else "wrong"
    return {"status": status, "detail": f"relative error {worst:.4f}"}


def _try_type(ggml: Any, cpu: int, kind: GGMLType, buft: int | None) -> list[float]:
    """Return the relative errors of y = W x for random W and x, one per batch size.

    W has the type `kind` and lies in a buffer of type `buft` (None: plain memory). The result is
    empty if that buffer type does not take such a weight.
    """
    rng = np.random.default_rng(1)
    encoded = encode_rows(kind, rng.standard_normal((_ROWS, _COLUMNS), dtype=np.float32))
    decoded = decode_rows(kind, encoded, (_ROWS, _COLUMNS)).astype(np.float64)
    errors: list[float] = []
    for batch in _BATCHES:
        inputs = rng.standard_normal((batch, _COLUMNS), dtype=np.float32)
        result = np.empty((batch, _ROWS), np.float32)
        extents, bufts = (_COLUMNS, _ROWS, batch), [] if buft is None else [buft]
        with allocate_product(ggml, cpu, kind.id, extents, bufts) as product:
            if buft is not None and product.buft != buft:
                return []
            ggml.ggml_backend_tensor_set(product.w, encoded.ctypes.data, 0, encoded.nbytes)
            ggml.ggml_backend_tensor_set(product.x, inputs.ctypes.data, 0, inputs.nbytes)
            ggml.ggml_backend_graph_compute(cpu, product.graph)
            ggml.ggml_backend_tensor_get(product.y, result.ctypes.data, 0, result.nbytes)
        expected = inputs.astype(np.float64) @ decoded.T
        errors.append(float(np.linalg.norm(result - expected) / np.linalg.norm(expected)))
    return errors


if __name__ == "__main__":
    main(sys.argv[1:])

"""The child that measures how fast a device multiplies weights by a vector. It may crash.

    python -m g4cli.runtime.probes.read_rate_child DEVICE BYTES LAYOUT TYPE...

prints {"type", "bytes_per_s"} for each type: a matrix of BYTES is read from the device's memory, as
in decoding, where each weight is used once a token.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from g4cli.runtime.engine.context import count_physical_cores
from g4cli.runtime.probes.kernels import TYPES
from g4cli.runtime.probes.matrix_product import (
    InitParams,
    accepts_weight,
    allocate_tensor,
    list_extra_bufts,
    load_matrix_functions,
)

_COLUMNS: Final = 4096  # as in the large matrices of Gemma 4; a multiple of every block
_ROW_STEP: Final = 64  # kernels for repacked weights take whole groups of rows
_REPETITIONS: Final = 3  # a choice: the best counts, others are slowed down by other programs


def main(args: Sequence[str]) -> None:
    """Measure the types named on the command line, and print a line for each."""
    device, n_bytes, layout, types = args[0], int(args[1]), args[2], args[3:]
    ggml = load_matrix_functions()
    backend = ggml.ggml_backend_dev_init(ggml.ggml_backend_dev_by_name(device.encode()), None)
    if device == "CPU":
        _use_all_cores(ggml, backend)
    bufts = list_extra_bufts(ggml, backend) if layout == "extra" else []
    for name in types:
        rate = _measure_rate(ggml, backend, TYPES[name], n_bytes, bufts)
        print(json.dumps({"type": name, "bytes_per_s": rate}), flush=True)


def _use_all_cores(ggml: Any, backend: int) -> None:
    """Use as many threads as `g4 chat` does; ggml's own default is four."""
    registry = ggml.ggml_backend_dev_backend_reg(ggml.ggml_backend_get_device(backend))
    address = ggml.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_set_n_threads")
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)
    prototype(address)(backend, count_physical_cores())


def _measure_rate(
    ggml: Any, backend: int, type_id: int, n_bytes: int, extra_bufts: Sequence[int]
) -> float:
    """Return bytes of weights per second, the best of a few products after a first one.

    The values do not matter, but the pages must exist: the buffer is filled first.
    """
    context = ggml.ggml_init(InitParams(1 << 20, None, True))  # headers only
    row = ggml.ggml_nbytes(ggml.ggml_new_tensor_2d(context, type_id, _COLUMNS, 1))
    n_rows = max(1, n_bytes // row // _ROW_STEP) * _ROW_STEP
    w = ggml.ggml_new_tensor_2d(context, type_id, _COLUMNS, n_rows)
    x = ggml.ggml_new_tensor_2d(context, 0, _COLUMNS, 1)
    y = ggml.ggml_mul_mat(context, w, x)
    plain = ggml.ggml_backend_get_default_buffer_type(backend)
    fitting = (b for b in extra_bufts if accepts_weight(ggml, backend, b, w, y))
    bufts = (next(fitting, plain), plain, plain)
    buffers = [allocate_tensor(ggml, t, buft) for t, buft in zip((w, x, y), bufts, strict=True)]
    for buffer in buffers:
        ggml.ggml_backend_buffer_clear(buffer, 1)
    graph = ggml.ggml_new_graph(context)
    ggml.ggml_build_forward_expand(graph, y)
    seconds = []
    for _ in range(_REPETITIONS + 1):
        started = time.perf_counter()
        ggml.ggml_backend_graph_compute(backend, graph)
        seconds.append(time.perf_counter() - started)
    size = ggml.ggml_nbytes(w)
    for buffer in buffers:
        ggml.ggml_backend_buffer_free(buffer)
    ggml.ggml_free(context)
    return float(size / min(seconds[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])

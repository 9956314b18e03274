"""The child that measures how fast a device multiplies weights by a vector. It may crash.

    python -m g4cli.runtime.probes.read_rate_child DEVICE BYTES LAYOUT TYPE...

prints {"type", "bytes_per_s"} for each type: a matrix of about BYTES is read from the device's
memory, as in decoding, where each weight is used once a token. DEVICE is a name of ggml, such as
CPU or CUDA0; LAYOUT is plain or extra, and TYPE a type of weights (see kernels.py).
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from g4cli.core.ggml import ggml_type
from g4cli.runtime.engine.context import count_physical_cores
from g4cli.runtime.probes.matrix_product import (
    allocate_product,
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
        rate = _measure_rate(ggml, backend, name, n_bytes, bufts)
        print(json.dumps({"type": name, "bytes_per_s": rate}), flush=True)


def _use_all_cores(ggml: Any, backend: int) -> None:
    """Use as many threads as `g4 chat` does; ggml's own default is four."""
    registry = ggml.ggml_backend_dev_backend_reg(ggml.ggml_backend_get_device(backend))
    address = ggml.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_set_n_threads")
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)
    prototype(address)(backend, count_physical_cores())


def _measure_rate(ggml: Any, backend: int, name: str, n_bytes: int, bufts: Sequence[int]) -> float:
    """Return bytes of weights per second, the best of a few products after a first one.

    The values do not matter, but the pages must exist: `allocate_product` fills them.
    """
    kind = ggml_type(name)
    row_bytes = kind.row_bytes(_COLUMNS)
    n_rows = max(1, n_bytes // row_bytes // _ROW_STEP) * _ROW_STEP
    extents, seconds = (_COLUMNS, n_rows, 1), []
    with allocate_product(ggml, backend, kind.id, extents, bufts) as product:
        for _ in range(_REPETITIONS + 1):
            started = time.perf_counter()
            ggml.ggml_backend_graph_compute(backend, product.graph)
            seconds.append(time.perf_counter() - started)
    return n_rows * row_bytes / min(seconds[1:])


if __name__ == "__main__":
    main(sys.argv[1:])

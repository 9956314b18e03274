"""What llama.cpp's log says of its buffers."""

from __future__ import annotations

import pytest

from g4cli.core.errors import NoMemory
from g4cli.core.units import MIB
from g4cli.runtime.llama.library import LOG, Log, make_context_error

# As llama.cpp logs them with a GPU and a worker; the numbers are made up.
LINES = """\
load_tensors:   CPU_Mapped model buffer size =  1024.00 MiB
load_tensors:        CUDA0 model buffer size =   512.50 MiB
load_tensors: RPC0[127.0.0.1:50052] model buffer size =    64.00 MiB
llama_kv_cache:        CPU KV buffer size =     8.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =    16.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =     4.00 MiB
sched_reserve:      CUDA0 compute buffer size =    32.00 MiB
sched_reserve:  CUDA_Host compute buffer size =     2.00 MiB
llama_context:        CPU output buffer size =     1.00 MiB
"""


def test_buffers_are_summed_over_all_devices_or_gpus() -> None:
    log = Log()
    log.add_text(2, LINES)
    assert log.sum_buffers("model") == 1600.5 * MIB
    assert log.sum_buffers("model", on_gpu=True) == 512.5 * MIB
    assert log.sum_buffers("KV") == 28 * MIB
    assert log.sum_buffers("KV", on_gpu=True) == 20 * MIB
    assert log.sum_buffers("compute") == 34 * MIB
    assert log.sum_buffers("compute", on_gpu=True) == 32 * MIB


@pytest.mark.parametrize(
    "line",
    [  # ggml-alloc.c, ggml-cuda.cu, llama-kv-cache.cpp, and what() of C++
        "ggml_backend_alloc_ctx_tensors_from_buft: failed to allocate CPU buffer of size 1",
        "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory",
        "llama_init_from_model: failed to allocate buffer for kv cache",
        "llama_init_from_model: failed to initialize the context: std::bad_alloc",
    ],
)
def test_a_log_that_speaks_of_memory_means_a_lack_of_it(line: str) -> None:
    LOG.clear()
    LOG.add_text(4, line + "\n")
    try:
        error = make_context_error("no context", hint="use less")
    finally:
        LOG.clear()
    assert isinstance(error, NoMemory)
    assert (error.message, error.hint) == (f"no context: {line}", "use less")

"""What llama.cpp's log says of its buffers."""

from __future__ import annotations

from g4cli.core.units import MIB
from g4cli.runtime.llama.library import Log

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

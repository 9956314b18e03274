"""The KV cache that g4's context takes for the 31B network at 32k: 3,760 MiB, not 29,440.

python -m tests.support.builders.real_shapes 31b q4_0 /tmp/31b.gguf && python tests/bench/kv_31b.py
/tmp/31b.gguf
"""

from __future__ import annotations

import sys
from pathlib import Path

from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions, ModelOptions
from g4cli.runtime.llama.interrupt import Interrupt

model = Model(Path(sys.argv[1]), ModelOptions(use_extra_bufts=False))
context = Context(model, ContextOptions(n_ctx=32768), Interrupt())
print(
    f"{model.description}: KV {context.kv_bytes / 2**20:.0f} MiB, compute "
    f"{context.compute_bytes / 2**20:.0f}"
)

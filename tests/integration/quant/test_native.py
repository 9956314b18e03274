"""ggml's coders by ctypes, and the numpy reference against them."""

from __future__ import annotations

import subprocess
import sys


def test_the_runtime_is_not_imported() -> None:
    code = (
        "import sys; from g4cli.quant import native; native.load_library(); "
        "sys.exit('llama_cpp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

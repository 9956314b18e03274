"""The models by name: shapes against their sources, names as people type them."""

from __future__ import annotations

import subprocess
import sys


def test_the_registry_loads_no_heavy_module() -> None:
    code = (
        "import sys, g4cli.core.registry\n"
        "heavy = {'numpy', 'platformdirs', 'rich', 'typer', 'huggingface_hub', 'llama_cpp',"
        " 'jinja2'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

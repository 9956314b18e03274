"""SFP8 archives: one byte per weight, self-describing, refused by llama.cpp, expanded exactly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from g4cli.quant.file import quantize_file
from g4cli.quant.recipes import Recipe
from tests.support.builders.weights import write_network

LOAD = """
import sys
from llama_cpp import llama_cpp as lib
params = lib.llama_model_default_params()
model = lib.llama_model_load_from_file(sys.argv[1].encode(), params)
sys.exit(0 if model is None else 9)
"""


@pytest.mark.slow
def test_llama_cpp_refuses_an_archive_by_name(tmp_path: Path) -> None:
    source = write_network(tmp_path / "net.gguf", n_layer=3, n_embd=128, n_ff=96, ple=32, sigma=0.4)
    quantize_file(source, tmp_path / "archive.gguf", recipe=Recipe("sfp8"))
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "archive.gguf")], capture_output=True, text=True
    )
    assert done.returncode == 0, "no model, no crash"
    assert "unknown model architecture: 'gemma4-sfp8'" in done.stderr

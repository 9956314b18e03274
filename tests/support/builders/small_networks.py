"""Small networks that llama.cpp runs, each with matrices of another kind."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from g4cli.converters import convert_checkpoint
from tests.support.builders import variants

IMATRIX_NETWORKS: Final = ("gemma-4-E2B-it", "gemma-4-26B-A4B-it")
"""Dense layers with per-layer embeddings and shared KV; layers with experts."""


def write_small_network(folder: Path, name: str) -> Path:
    """Return the GGUF of a variant of `variants.names()`, written to `folder`."""
    checkpoint = variants.write_variant(folder / name, variants.load(name))
    return convert_checkpoint(checkpoint, folder / f"{name}.gguf").path

"""The bundled checkpoint, converted, has the logits of transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from g4cli.converters import convert_checkpoint
from g4cli.core import ggml
from tests.support.builders.checkpoints import (
    TINY,
)
from tests.support.paths import GOLDEN
from tests.support.run.llama_logits import logits_of


def test_logits_equal_transformers(tmp_path: Path) -> None:
    golden = np.load(GOLDEN / "tiny_logits.npz")
    path = convert_checkpoint(TINY, tmp_path / "out.gguf", plain=ggml.F32).path
    prompts = [golden[f"ids_{i}"].tolist() for i in range(len(golden.files) // 2)]
    for i, got in enumerate(logits_of(path, prompts)):
        theirs, ours = golden[f"logits_{i}"].astype(np.float64), got.astype(np.float64)
        p, q = (x - np.logaddexp.reduce(x, axis=1, keepdims=True) for x in (theirs, ours))
        # Measured with ggml built for AMX, AVX2 and SSE: up to 2.9e-7, and 0.0059.
        assert (np.exp(p) * (p - q)).sum(axis=1).mean() < 1e-5
        assert np.abs(theirs - ours).max() < 0.02

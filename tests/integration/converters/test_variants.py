"""Every Gemma 4 variant that runs has the logits of transformers.

Recorded by tests/oracle/compare_convert.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from g4cli.converters import convert_checkpoint
from g4cli.core import ggml
from tests.support.builders import variants
from tests.support.run.llama_logits import logits_of

RUNNABLE = [name for name in variants.names() if "assistant" not in name]


@pytest.mark.parametrize("name", RUNNABLE)
def test_logits_equal_transformers(name: str, tmp_path: Path) -> None:
    golden = np.load(variants.GOLDEN.with_name("variants_logits.npz"))
    folder = variants.write_variant(tmp_path / name, variants.load(name))
    path = convert_checkpoint(folder, tmp_path / "out.gguf", plain=ggml.F32).path
    ours = next(iter(logits_of(path, [golden["prompt"].tolist()]))).astype(np.float64)
    theirs = golden[name].astype(np.float64)
    p, q = (x - np.logaddexp.reduce(x, axis=1, keepdims=True) for x in (theirs, ours))
    # Measured with ggml built for AMX, AVX2 and SSE: up to 2.4e-7, and 0.0048; the builds differ by
    # 3e-9, and 0.0002.
    assert (np.exp(p) * (p - q)).sum(axis=1).mean() < 1e-6
    assert np.abs(theirs - ours).max() < 0.01

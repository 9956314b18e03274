"""Checks of small tensors, on numbers that no converter writes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from g4cli.core.gguf import read_header
from g4cli.core.inventory import ROPE_FREQS
from g4cli.doctor.checks.weights import check_norms, check_rope
from g4cli.doctor.facts.tensor_scan import read_vectors
from tests.support.builders.gguf import build_gguf, gemma4_keys, tensor_info


def test_signalling_nans_are_judged_without_a_warning() -> None:
    bits = np.array([0x7FA00001] * 64, dtype=np.uint32).view(np.float32)
    facts: Any = SimpleNamespace(
        shape=object(), vectors={ROPE_FREQS: bits, "blk.0.attn_norm.weight": bits}
    )
    assert check_rope(facts).status == "fail"
    assert check_norms(facts).status == "ok"  # NaN has a check of its own


def test_small_tensors_are_kept_up_to_a_total(tmp_path: Path) -> None:
    """A sparse file of 150 KB may claim thousands of them, 26 GB in all."""
    count, size = 400, 1 << 18
    infos = [tensor_info(f"t{i}", 0, (size // 4,), i * size) for i in range(count)]
    head = build_gguf(gemma4_keys(), infos=infos)
    path = tmp_path / "sparse.gguf"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + 32 + count * size)
    found = read_vectors(read_header(path))
    assert sum(vector.nbytes for vector in found.values()) == 64 << 20

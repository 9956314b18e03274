"""Checks of small tensors, on numbers that no converter writes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from g4cli.core.inventory import ROPE_FREQS
from g4cli.doctor.checks.weights import check_norms, check_rope


def test_signalling_nans_are_judged_without_a_warning() -> None:
    bits = np.array([0x7FA00001] * 64, dtype=np.uint32).view(np.float32)
    facts: Any = SimpleNamespace(
        shape=object(), vectors={ROPE_FREQS: bits, "blk.0.attn_norm.weight": bits}
    )
    assert check_rope(facts).status == "fail"
    assert check_norms(facts).status == "ok"  # NaN has a check of its own

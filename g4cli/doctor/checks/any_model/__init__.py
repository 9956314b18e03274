"""Checks of a language model of another architecture than Gemma 4.

They ask the same questions as the checks of Gemma 4 and have the same ids, but they compare the
file with itself only: with its own keys, its own tokens, its own template. A file holds the checks
of one family and has its name. Tensor data are judged by the same checks as Gemma 4's.
"""

from __future__ import annotations

from typing import Final

from g4cli.doctor.checks.any_model import keys, probe, template, tensors, tokenizer
from g4cli.doctor.report import Check

CHECKS: Final[tuple[Check, ...]] = (
    *keys.CHECKS, *tensors.CHECKS, *tokenizer.CHECKS, *template.CHECKS, *probe.CHECKS,
)  # fmt: skip

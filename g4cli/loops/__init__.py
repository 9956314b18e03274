"""Detects loops in a stream of token ids. Needs no text, no model and no clock."""

from g4cli.loops.detector import GEMMA4_DIGITS, Loop, LoopDetector

__all__ = ["GEMMA4_DIGITS", "Loop", "LoopDetector"]

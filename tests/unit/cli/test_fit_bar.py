"""The memory bar of `g4 fit` can be read without colors."""

from __future__ import annotations

from g4cli.cli.streams import ASCII_REPLACEMENTS
from g4cli.cli.views.fit import make_bar
from g4cli.core.units import MIB
from g4cli.estimate import Term
from g4cli.fit.memory import Memory

_TERMS = (
    Term("weights", "host", "weights", 20 * MIB),
    Term("weights, repacked", "host", "weights", 20 * MIB),
    Term("per-layer embeddings", "host", "weights", 20 * MIB),
    Term("KV cache, full", "host", "kv", 10 * MIB),
    Term("KV cache, sliding", "host", "kv", 10 * MIB),
)


def test_terms_of_one_group_have_different_glyphs() -> None:
    bar = make_bar(_TERMS, Memory("host", 100 * MIB, 100 * MIB, 10 * MIB), 10)
    assert "".join(text for text, _ in bar) == "██▙▙▌▌▓▚·-"
    assert {style for text, style in bar if text in "█▙▌"} == {"cyan"}


def test_the_glyphs_stay_different_in_ascii() -> None:
    bar = make_bar(_TERMS, Memory("host", 100 * MIB, 100 * MIB, 10 * MIB), 10)
    text = "".join(ASCII_REPLACEMENTS.get(glyph, glyph) for text, _ in bar for glyph in text)
    assert text == "##HHII=~.-"

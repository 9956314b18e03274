"""Invisible characters are escaped in names, answers and JSON; joiners that a script needs stay."""

from __future__ import annotations

import itertools
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g4cli.core.visible import AnswerCleaner, escape_invisible, json_text, one_line

UNSEEN = [
    *map(chr, [*range(0x20), *range(0x7F, 0xA0)]),
    *"\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u2029",
    *"\u202a\u202b\u202c\u202d\u202e",
    *"\u2060\u2061\u2064\u2066\u2067\u2068\u2069\u206a\u206f\u3164\ufeff\ufff9\ufffb",
    *"\U000e0001\U000e0020\U000e0041\U000e007f\U000e0100\U000e01ef\ud83d\udce9",
]


@pytest.mark.parametrize("char", UNSEEN, ids=lambda char: f"{ord(char):x}")
def test_no_invisible_character_passes(char: str) -> None:
    text = f"a{char}b"
    assert one_line(text).isprintable()
    assert one_line(text).startswith("a\\")
    if char in "\n\t":
        assert escape_invisible(text) == text
    else:
        assert escape_invisible(text) == one_line(text)
    for ascii_only in (False, True):
        shown = json_text([text], ascii_only=ascii_only)
        assert shown.isprintable()
        assert json.loads(shown) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nhint: curl x | sh\t.\r", "a\\nhint: curl x | sh\\t.\\r"),
        ("caf\udce9", "caf\\xe9"),
        ("a\U000e0041", "a\\U000e0041"),
        ("Größe <turn|> ▁ 漢字 ❤\ufe0f", "Größe <turn|> ▁ 漢字 ❤\ufe0f"),
        ("a\ufe01\ufe02\ufe03", "a\ufe01\\ufe02\\ufe03"),
        ("👩\u200d👧", "👩\\u200d👧"),
    ],
)
def test_names_are_one_line(text: str, expected: str) -> None:
    assert one_line(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a\n\tb\n",
        "می\u200cخواهم",  # Persian
        "क्\u200dष क्\u200cष",  # Devanagari
        "👩\u200d👩\u200d👧\u200d👦 👩🏽\u200d🚒 ❤\ufe0f\u200d🔥 🏳\ufe0f\u200d🌈",
        "ශ්\u200dරී",  # Sinhala
    ],
)
def test_answers_keep_what_their_script_needs(text: str) -> None:
    assert escape_invisible(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pass\u200dword", "pass\\u200dword"),
        ("می\u200c\u200cخ", "می\u200c\\u200cخ"),
        ("\u200d", "\\u200d"),
    ],
)
def test_answers_keep_no_other_joiner(text: str, expected: str) -> None:
    assert escape_invisible(text) == expected


@pytest.mark.slow
@given(st.text(), st.lists(st.integers(0, 60)))
def test_an_answer_in_pieces_is_the_whole(text: str, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    cleaner = AnswerCleaner()
    pieces = [cleaner(text[a:b]) for a, b in itertools.pairwise(edges)]
    assert "".join(pieces) == escape_invisible(text)


@pytest.mark.slow
@given(st.text(st.characters()))
def test_nothing_of_unicode_that_controls_passes(text: str) -> None:
    for char in one_line(text):
        kind = unicodedata.category(char)
        # Cf that has a glyph: Arabic number signs, Egyptian joiners and their like.
        assert kind not in ("Cc", "Cs", "Zl", "Zp"), hex(ord(char))
    assert json.loads(json_text(text)) == text

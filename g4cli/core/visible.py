"""Escape the control and invisible characters of text from files, models and servers.

Such text could otherwise control the terminal or hide what it says. All of it that the terminal,
the reports of `g4 compare` or the server show passes one of three policies:

one_line()      names, values, messages, hints: one line, everything invisible escaped
AnswerCleaner   an answer: keeps line breaks, tabs, and the joiners that its script or emoji needs
                (escape_invisible() for a text that is complete)
json_text()     JSON: invisible characters as \\uXXXX, which every parser decodes

Escaped are C0 and C1 controls and DEL (they move the cursor, set the title, write the clipboard);
bidirectional marks, embeddings, overrides and isolates (they reorder what is read: CVE-2021-42574);
characters without width or ink, among them the tags U+E0000 to U+E007F and variation selectors in a
row (they hide text); the line separators U+2028 and U+2029; and surrogates, which represent bytes
that are not UTF-8 (PEP 383).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

# Surrogates that stand for the bytes 0x80 to 0xFF of a text that is not UTF-8 (PEP 383).
_UNDECODED_BYTES: Final = range(0xDC80, 0xDD00)

# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties 16.0) and all of its category Cf
# that has no glyph, except the joiners and the variation selectors of the Basic Multilingual
# Plane: see below.
_INVISIBLE: Final = (
    "\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_JOINERS: Final = "\u200c\u200d"
# One selector after a character chooses its shape (a red heart); several in a row hide bytes.
_SELECTORS: Final = "\u180b-\u180d\u180f\ufe00-\ufe0f"
# A selector behind another one, or behind nothing.
_EXTRA_SELECTORS: Final = f"(?:(?<=[{_SELECTORS}])|^)[{_SELECTORS}]"
# What a joiner may follow: scripts whose letters join or stack (Arabic to Mandaic, Devanagari to
# Sinhala, Myanmar, Khmer, Mongolian, Balinese, Javanese, Brahmi's family), and emoji with skin tone
# or selector.
_JOINING: Final = (
    "\u0600-\u085f\u0870-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17ff\u1800-\u18af\u1a20-\u1aaf"
    "\u1b00-\u1bff\ua840-\ua87f\ua980-\ua9ff\uaa60-\uaa7f\ufb50-\ufdff\ufe70-\ufefc"
    "\U00011000-\U000114ff\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\ufe0f\U0001f000-\U0001faff"
)
_NOT_IN_LINE: Final = re.compile(f"[\x00-\x1f{_INVISIBLE}{_JOINERS}]|{_EXTRA_SELECTORS}")
_NOT_IN_ANSWER: Final = re.compile(
    f"[\x00-\x08\x0b-\x1f{_INVISIBLE}]|(?<![{_JOINING}])[{_JOINERS}]|{_EXTRA_SELECTORS}"
)
_NOT_IN_JSON: Final = re.compile(f"[{_INVISIBLE}{_JOINERS}{_SELECTORS}]")


def one_line(text: str) -> str:
    """Return `text` as one line, with every control and invisible character as an escape."""
    return _NOT_IN_LINE.sub(_escape_match, text)


def escape_invisible(text: str) -> str:
    """Return a complete answer, or other text of several lines, as AnswerCleaner escapes it."""
    return _NOT_IN_ANSWER.sub(_escape_match, text)


class AnswerCleaner:
    """Escapes an answer that arrives in pieces; each answer needs a new one.

    It remembers the last character, because whether a joiner is kept depends on the one before it.
    """

    def __init__(self) -> None:
        self._before = ""

    def __call__(self, piece: str) -> str:
        """Return the next piece of the answer with its invisible characters escaped."""
        before = self._before
        self._before = piece[-1:] or before
        # `before` was returned with the last piece. Here the pattern only looks back at it.
        escaped = _NOT_IN_ANSWER.sub(
            lambda match: match[0] if match.start() < len(before) else _escape_match(match),
            before + piece,
        )
        return escaped[len(before) :]


def json_text(data: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """Return `data` as JSON without raw invisible characters.

    Objects that JSON lacks become their str().
    """
    text = json.dumps(data, ensure_ascii=ascii_only, indent=indent, default=str)
    return _NOT_IN_JSON.sub(_escape_json_match, text)


def _escape_match(match: re.Match[str]) -> str:
    code = ord(match[0])
    char = chr(code - 0xDC00) if code in _UNDECODED_BYTES else match[0]
    return char.encode("unicode_escape").decode("ascii")


def _escape_json_match(match: re.Match[str]) -> str:
    # JSON escapes a character as its one or two units of UTF-16, of four hexadecimal digits each.
    digits = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{digits[i : i + 4]}" for i in range(0, len(digits), 4))

"""Where a number in JSON must end: a model that is lost would write digits for ever.

A JSON schema bounds the value of a number and never its digits. A double has 17 that mean
something, and the largest integers in use, of 128 bits, have 39. An exponent of more than two
digits can make it larger than any double. So behind MAX_DIGITS digits, or MAX_EXPONENT_DIGITS,
the tokens that begin with another one are taken out of the mask, unless nothing else is allowed
there. What is left was allowed before, so that the answer still obeys its schema.

Who reads 0.99999999999999999 as a double finds 1, and thus not what is below 1. So where a schema
has bounds that exclude their value, a number with a fraction gets no more significant digits than a
double tells apart from each other: DBL_DIG of C's float.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MAX_DIGITS: Final = 40
"""Digits of a number, those of its fraction included."""

MAX_EXPONENT_DIGITS: Final = 2
DOUBLE_DIGITS: Final = 15

# Gemma's quotation mark, prompt.tools.QUOTE: to import it would take 50 ms of each new grammar.
_QUOTE: Final = b'<|"|>'
_DIGITS: Final = frozenset(b"0123456789")
_STRING_QUOTE, _BACKSLASH, _POINT, _ZERO = b'"\\.0'
# What ends a word or a number outside of texts; in a call, names of tools and members are words.
_ENDS: Final = frozenset(b"{}[],:<> \t\r\n")


class NumberScanner:
    """Counts the digits of the number that an answer in JSON, or a call of a tool, ends with."""

    def __init__(self, most_in_fractions: int = MAX_DIGITS) -> None:
        """`most_in_fractions`: significant digits of a number with a fraction."""
        self._most_in_fractions = most_in_fractions
        self.n_digits = self.n_exponent_digits = 0
        self._n_leading_zeros = 0
        self._in_fraction = self._in_exponent = False
        self._in_word = False  # its digits, as in the name tool_7, are none of a number
        self._in_string = self._is_escaped = False
        self._in_text = False  # of a call, between two of Gemma's quotation marks

    @property
    def is_full(self) -> bool:
        """Return whether the number should get no more digits."""
        n_significant = self.n_digits - self._n_leading_zeros
        return (
            self.n_digits >= MAX_DIGITS
            or (self._in_fraction and n_significant >= self._most_in_fractions)
            or self.n_exponent_digits >= MAX_EXPONENT_DIGITS
        )

    def add_token(self, piece: bytes) -> None:
        """Go on behind a token with the bytes `piece`."""
        if piece == _QUOTE:
            self._in_text = not self._in_text
            self._end_number()
        elif not self._in_text:
            for byte in piece:
                self._add_byte(byte)

    def _add_byte(self, byte: int) -> None:
        if self._in_string:
            if self._is_escaped:
                self._is_escaped = False
            elif byte == _BACKSLASH:
                self._is_escaped = True
            else:
                self._in_string = byte != _STRING_QUOTE
        elif byte == _STRING_QUOTE:
            self._in_string = True
            self._end_number()
        elif byte in _ENDS:
            self._end_number()
        elif self._in_word:
            return
        elif byte in _DIGITS:
            if self._in_exponent:
                self.n_exponent_digits += 1
            else:
                self._n_leading_zeros += byte == _ZERO and self._n_leading_zeros == self.n_digits
                self.n_digits += 1
        elif byte == _POINT:
            self._in_fraction = self.n_digits > 0
        elif byte in b"eE" and self.n_digits:
            self._in_exponent = True
        elif byte not in b"+-":
            self._end_number()
            self._in_word = True

    def _end_number(self) -> None:
        self.n_digits = self.n_exponent_digits = self._n_leading_zeros = 0
        self._in_fraction = self._in_exponent = self._in_word = False


def pack_digit_tokens(pieces: Sequence[bytes]) -> int:
    """Return the mask of the tokens that begin with a digit, as an integer: bit n is token n."""
    bits = bytearray((len(pieces) + 7) // 8)
    for token, piece in enumerate(pieces):
        if piece[:1].isdigit():
            bits[token >> 3] |= 1 << (token & 7)
    return int.from_bytes(bits, "little")


def end_number(mask: bytes, digit_tokens: int) -> bytes:
    """Return a mask without the tokens of `digit_tokens`, or as it is if it has no others."""
    others = int.from_bytes(mask, "little") & ~digit_tokens
    return others.to_bytes(len(mask), "little") if others else mask

"""Numbers in JSON end behind MAX_DIGITS digits, and nothing else is cut."""

from __future__ import annotations

import pytest

from g4cli.prompt import tools
from g4cli.runtime.engine.number_limit import (
    DOUBLE_DIGITS,
    MAX_DIGITS,
    NumberScanner,
    end_number,
    pack_digit_tokens,
)

QUOTE = tools.QUOTE.encode()


def scan(*pieces: bytes) -> NumberScanner:
    """Return what is known behind the tokens `pieces`."""
    scanner = NumberScanner()
    for piece in pieces:
        scanner.add_token(piece)
    return scanner


@pytest.mark.parametrize(
    ("pieces", "n_digits"),
    [
        ([b"123"], 3),
        ([b"-1", b"2.5", b"0e", b"+7"], 4),
        ([b"true, 12"], 2),
        ([b"[1234, 5"], 1),
        ([b"12 "], 0),
        ([b'{"12', b'34": 5'], 1),
        ([b'"12'], 0),
        ([b'"a\\"1', b'2"', b": 3"], 1),
        ([b'"a\\', b'"12'], 0),
        ([b'"a\\\\"', b", 12"], 2),
        # In a call of a tool, Gemma's own mark begins and ends a text, and " is a character.
        ([b"call:f{a:", QUOTE, b'1"2', QUOTE, b",b:12"], 2),
        ([b"call:f{a:", QUOTE, b'1"2'], 0),
        # Digits within a name are none of a number.
        ([b"call:tool_7", b"e10"], 0),
        ([b"call:a-1.5/2{v3e100:4"], 1),
        ([b"call:f{t:true,e1:12"], 2),
        ([b"<turn|>12"], 2),
    ],
)
def test_digits_are_counted_outside_of_texts(pieces: list[bytes], n_digits: int) -> None:
    assert scan(*pieces).n_digits == n_digits


@pytest.mark.parametrize(
    ("text", "is_full"),
    [
        ("1" * (MAX_DIGITS - 1), False), ("1" * MAX_DIGITS, True),
        ("0." + "1" * (MAX_DIGITS - 1), True), ("1" * MAX_DIGITS + ",", False),
        ("1e", False), ("1e1", False), ("1.5E-12", True), ("1e12,", False), ("[1e12,3", False),
        ('"1e12"', False), ("false12", False),
    ],
)  # fmt: skip
def test_a_number_is_full(text: str, is_full: bool) -> None:
    assert scan(text.encode()).is_full is is_full


@pytest.mark.parametrize(
    ("text", "is_full"),
    [
        ("0.99999999999999", False), ("0.999999999999999", True), ("0.00099999999999999", False),
        ("0.000999999999999999", True), ("12345678901234.5", True), ("1234567890123456", False),
        ("12345678901234567,0.5", False), ("0.10000000000000", False), ("0.100000000000000", True),
    ],
)  # fmt: skip
def test_a_fraction_is_full(text: str, is_full: bool) -> None:
    """Two numbers of 15 digits are two doubles."""
    scanner = NumberScanner(most_in_fractions=DOUBLE_DIGITS)
    scanner.add_token(text.encode())
    assert scanner.is_full is is_full


def test_a_number_ends_where_it_may() -> None:
    pieces = [b"0", b"1", b",", b"12", b"a1", b"", b"\n", b"}"]
    digits = pack_digit_tokens(pieces)
    assert [token for token in range(8) if digits >> token & 1] == [0, 1, 3]
    assert end_number(bytes([0b11111111]), digits) == bytes([0b11110100])
    assert end_number(bytes([0b00001011]), digits) == bytes([0b00001011])  # it has to go on

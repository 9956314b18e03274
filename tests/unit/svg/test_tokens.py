"""The tokenizer takes any text apart without gaps, and says what breaks the XML."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g4cli.svg.tokens import Tokenizer
from tests.support.growth import assert_linear

# What markup is made of, so that texts come close to it.
PIECES = [
    "<",
    ">",
    "/",
    "'",
    '"',
    "=",
    "!",
    "?",
    "-",
    "[",
    "]",
    "&",
    ";",
    "a",
    "svg",
    " ",
    "\n",
    "“",
    "\\",
]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)))
def test_tokens_cover_any_text_without_gaps(text: str) -> None:
    at = 0
    for token in Tokenizer(text).tokens:
        assert token.start == at < token.end
        at = token.end
    assert at == len(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("<a x=\"1\" y='2'/>", ["x=1", "y=2"]),
        ("<a x=1 y=2/>", ["x=1", "y=2"]),
        ('<a x="1"y="2">', ["x=1", "y=2"]),
        ("<a x=“1” y=„2“>", ["x=1", "y=2"]),
        (r"<a x=\"1\" y=\"2 3\">", ["x=1", "y=2 3"]),
        ('<a x="1 y="2">', ["x=1", "y=2"]),
        ('<a x="1>\n<b y="2">', ["x=1"]),
        ('<a x="1/><b y="2"/>', ["x=1"]),
        ('<a stroke width="2" stroke="red">', ["stroke-width=2", "stroke=red"]),
        ("<a hidden x='1'>", ["hidden=", "x=1"]),
        ("<a , x='1' ; y='2'>", ["x=1", "y=2"]),
        ("<a x = '1'>", ["x=1"]),
        ("<a href=#b/>", ["href=#b"]),
    ],
)
def test_attributes_are_read_as_they_were_meant(text: str, names: list[str]) -> None:
    token = next(token for token in Tokenizer(text).tokens if token.kind == "start")
    assert [f"{item.name}={item.value}" for item in token.attributes] == names


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    [
        "<!--", "<![CDATA[", "<!DOCTYPE[", "<?x ", '<a b="', "<a b='>", "<a b=“", '<a b=\\"', "</",
        "<a <", "<a b=c ", "&", "<a x='1'y=\"2\">", "<!", "<a\t", "<g>", "</g>", "]]>", "<a / ",
    ],
)  # fmt: skip
def test_time_is_linear_in_the_length(piece: str) -> None:
    assert_linear(lambda n: Tokenizer(piece * n), 2_000)

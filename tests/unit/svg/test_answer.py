"""The drawing is found in whole answers: after thoughts, between prose, in code fences, cut off."""

from __future__ import annotations

import pytest

from g4cli.svg.answer import find_drawing
from tests.support.growth import assert_linear

SVG = '<svg viewBox="0 0 1 1"><g/></svg>'
OTHER = '<svg viewBox="0 0 2 2"><g/></svg>'


@pytest.mark.parametrize(
    ("text", "drawing", "is_whole"),
    [
        (SVG, SVG, True),
        (f"Here:\n```svg\n{SVG}\n```\nDone.", SVG, True),
        (f"{OTHER} or better {SVG}", SVG, True),
        (f"<|channel>thought\n{OTHER}<channel|>{SVG}", SVG, True),
        (f"{SVG}<think>Was that <svg> right?</think>", SVG, True),
        (f"<think>{OTHER}", OTHER, True),
        (f"The tag `<svg>` begins it: {SVG}", SVG, True),
        (f"```xml\n{SVG}\n```\nand `<svg>` is its name", SVG, True),
        ('Here: <svg viewBox="0 0 1 1"><g', '<svg viewBox="0 0 1 1"><g', False),
        ('```\n<svg width="9"><g>\n```\nI stop here.', '<svg width="9"><g>\n', False),
        ('<svg width="9"><svg x="1"/><svg><g/></svg><rect',
            '<svg width="9"><svg x="1"/><svg><g/></svg><rect',
         False),
        (f'So: <?xml version="1.0"?>\n<!-- a -->\n{SVG} ok',
         f'<?xml version="1.0"?>\n<!-- a -->\n{SVG}', True),
        (f'<?xml version="1.0"?><!-- a --><!DOCTYPE svg>{SVG}\n<!-- b -->\n',
         f'<?xml version="1.0"?><!-- a --><!DOCTYPE svg>{SVG}\n<!-- b -->\n', True),
    ],
)  # fmt: skip
def test_the_drawing_of_an_answer(text: str, drawing: str, is_whole: bool) -> None:
    found = find_drawing(text)
    assert found is not None
    assert (text[found.start : found.end], found.is_whole) == (drawing, is_whole)


@pytest.mark.parametrize("text", ["", "no drawing", "<svgx/>", "< svg>", "<html></html>"])
def test_no_drawing(text: str) -> None:
    assert find_drawing(text) is None


def test_drawings_are_counted() -> None:
    found = find_drawing(f"{SVG} {SVG} {OTHER}")
    assert found is not None
    assert found.count == 3


def test_time_is_linear_in_the_number_of_drawings() -> None:
    assert_linear(lambda n: find_drawing("<svg/>" * n), 20_000)

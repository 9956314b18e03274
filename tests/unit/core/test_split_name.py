"""Names of the parts of a split GGUF."""

from __future__ import annotations

import pytest

from g4cli.core.split_name import SplitName, name_part, parse_split_name


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/m-BF16-00002-of-00003.gguf", SplitName("a/m-BF16", 2, 3)),
        ("m-00001-of-00002", SplitName("m", 1, 2)),
        ("a\nb-00001-of-00002.gguf", SplitName("a\nb", 1, 2)),
        ("m.gguf", None),
        ("m-00000-of-00002.gguf", None),
        ("m-00003-of-00002.gguf", None),
        ("m-00001-of-00000.gguf", None),
        ("m-00001-of-00002.gguf\n", None),
        ("m-00001-of-00002.gguf.part", None),
        ("m-٠٠٠٠١-of-00002.gguf", None),
    ],
)
def test_a_name_is_taken_apart(path: str, expected: SplitName | None) -> None:
    assert parse_split_name(path) == expected


def test_a_name_is_made_of_its_parts() -> None:
    assert parse_split_name(name_part("a/m", 2, 3)) == SplitName("a/m", 2, 3)

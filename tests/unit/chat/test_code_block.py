"""The fenced code blocks of an answer, by the rules of CommonMark."""

from __future__ import annotations

import pytest

from g4cli.chat.code_block import find_code_blocks


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no code", None),
        ("`inline` and ``two``", None),
        ("```x``` is inline", None),
        ("Here:\n\n```py\nf(1)\n\nf(2)\n```\nthen\n```\nother\n```", "f(1)\n\nf(2)\n"),
        ("~~~\na\n```\nb\n~~~", "a\n```\nb\n"),
        ("````md\n```\nx\n```\n````", "```\nx\n```\n"),
        ("  ```\n  a\n    b\n c\n  ```", "a\n  b\nc\n"),
        ("    ```\n    four blanks\n", None),
        ("10. Do:\n    ```\n    x\n    ```\nDone", "x\n"),
        ("- Do:\n\nDone\n\n    ```\n    x", None),
        ('```python title="x"\nx = 1\n```', "x = 1\n"),
        ("```\nnot closed", "not closed\n"),
        ("```\n```", ""),
        ("```\r\na = '\u2028'\r\n\x0cb\r\n```\r\n", "a = '\u2028'\n\x0cb\n"),
    ],
)  # fmt: skip
def test_it(text: str, code: str | None) -> None:
    assert next(find_code_blocks(text), None) == code


def test_all_blocks() -> None:
    text = "```\n```\n1. One:\n   ```c#\n   x\n   ```\n2. Two.\n```\ny"
    assert list(find_code_blocks(text)) == ["", "x\n", "y\n"]

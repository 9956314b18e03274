"""Find the first code block of an answer."""

from __future__ import annotations

import re
from typing import Final

# Fenced code blocks: https://spec.commonmark.org/0.31.2/#fenced-code-blocks
_LINE_END: Final = re.compile(r"\r\n?|\n")  # str.splitlines also splits at what strings may hold
_OPENING: Final = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")


def find_code_block(text: str) -> str | None:
    """Return the code of the first fenced block in `text`, or None if it has none.

    A block that is not closed extends to the end. Every line of the code ends with a newline.
    """
    lines = _LINE_END.split(text)
    if not lines[-1]:
        lines.pop()
    for index, line in enumerate(lines):
        opening = _OPENING.match(line)
        if opening is None:
            continue
        fence = opening[1]
        indent = len(line) - len(line.lstrip(" "))
        closing = re.compile(rf" {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}\s*$")
        code = []
        for inner in lines[index + 1 :]:
            if closing.match(inner):
                break
            # Code is indented as much as its fence at most.
            code.append(re.sub(rf"^ {{0,{indent}}}", "", inner))
        return "".join(f"{inner}\n" for inner in code)
    return None

"""Find the code blocks of an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# Fenced code blocks: https://spec.commonmark.org/0.31.2/#fenced-code-blocks
_LINE_END: Final = re.compile(r"\r\n?|\n")  # str.splitlines also splits at what strings may hold
_OPENING: Final = re.compile(r"( *)(`{3,}(?=[^`]*$)|~{3,})")
_LIST_ITEM: Final = re.compile(r" *(?:[-*+]|\d{1,9}[.)]) +")
_MAX_INDENT: Final = 3  # of a fence, beyond the text of the list item that it is in


def find_code_blocks(text: str) -> Iterator[str]:
    """Yield the code of each fenced block in `text`, those in lists too.

    A block that is not closed extends to the end. Every line of the code ends with a newline.
    """
    lines = _LINE_END.split(text)
    if not lines[-1]:
        lines.pop()
    code: list[str] | None = None
    fence, indent, item_indent = "", 0, 0
    for line in lines:
        opening = _OPENING.match(line)
        if code is not None:
            mark = line.strip()
            is_fence = mark.startswith(fence) and not mark.strip(fence[0])
            if is_fence and len(line) - len(line.lstrip(" ")) <= item_indent + _MAX_INDENT:
                yield "".join(f"{inner}\n" for inner in code)
                code = None
            else:
                # Code is indented as much as its fence at most.
                code.append(re.sub(rf"^ {{0,{indent}}}", "", line))
        elif opening and len(opening[1]) <= item_indent + _MAX_INDENT:
            code, indent, fence = [], len(opening[1]), opening[2]
        elif item := _LIST_ITEM.match(line):
            item_indent = len(item[0])
        elif line[:1].strip():
            item_indent = 0  # a line from the margin on ends the list
    if code is not None:
        yield "".join(f"{inner}\n" for inner in code)

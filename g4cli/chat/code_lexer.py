"""Pygments' lexers, by which the terminal and the page of the server color the code of answers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

# By their names in Pygments 2.21, lexers that some line of code keeps busy for ever:
# '  File "x", line 1 in f' the first two (and they fill the memory), an open string the third.
_ENDLESS: Final = frozenset(("Python console session", "Python Traceback", "Maple"))


@lru_cache(maxsize=64)
def find_lexer(language: str) -> Any:
    """Return Pygments' lexer for the name of a language, or None if there is none to use.

    Give it code that ends with a newline: some lexers drop the last line of other code. The text of
    the tokens is then what went in, except that all lexers make newlines of other line ends and
    drop a BOM at the beginning, and that some change more. So compare the two.
    """
    # Code in another language within a text would be colored by any lexer (handlecodeblocks).
    options = {"stripnl": False, "ensurenl": False, "tabsize": 0, "handlecodeblocks": False}
    try:
        lexer = get_lexer_by_name("xml" if language == "svg" else language, **options)
    except ClassNotFound:
        return None
    return None if lexer.name in _ENDLESS else lexer

"""Code in colors, line by line: each line is highlighted when it is finished, and once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.syntax import Syntax
from rich.text import Text

if TYPE_CHECKING:
    from rich.style import Style

_THEME: Final = "ansi_dark"
# A lexer needs the lines before: a docstring or a comment may go on. Beyond `_MOST` lines with no
# place to begin anew, the rest is shown without colors.
_ENOUGH, _MOST = 24, 200
_LONGEST: Final = 2_000  # characters of a line that is worth it
_SPANNING: Final = ("String", "Comment", "Heredoc")


class Highlighter:
    """Remembers as many lines as the next one needs."""

    def __init__(self, language: str) -> None:
        self._lexer: Any = Syntax("", language).lexer if language else None
        if self._lexer is not None:
            self._lexer.tabsize = 0  # tabs stay tabs
        self._theme = Syntax.get_theme(_THEME)
        self._before: list[str] = []

    def highlight_line(self, text: str) -> Text:
        """Return the next line of the code with its colors."""
        if self._lexer is None or len(text) > _LONGEST:
            return Text(text)
        self._before.append(text)
        rows = self._lex_lines()
        if len(self._before) > _ENOUGH:
            self._forget_lines(rows)
        parts = rows[-1] if rows else []
        if "".join(part for _, part in parts) != text:  # a lexer that changes what it reads
            return Text(text)
        line = Text()
        for kind, part in parts:
            line.append(part, self._find_style(kind))
        return line

    def _find_style(self, kind: Any) -> Style:
        return self._theme.get_style_for_token(kind)

    def _lex_lines(self) -> list[list[tuple[Any, str]]]:
        """Return the tokens of each remembered line; one that spans lines is a part of each."""
        rows: list[list[tuple[Any, str]]] = [[]]
        for kind, value in self._lexer.get_tokens("\n".join(self._before)):
            for index, part in enumerate(value.split("\n")):
                if index:
                    rows.append([])
                if part:
                    rows[-1].append((kind, part))
        return rows[: len(self._before)]

    def _forget_lines(self, rows: list[list[tuple[Any, str]]]) -> None:
        """Forget the lines before the last that begins neither inside a string nor a comment."""
        for index in range(len(rows) - 1, _ENOUGH // 2, -1):
            if rows[index] and not any(word in str(rows[index][0][0]) for word in _SPANNING):
                del self._before[:index]
                return
        if len(self._before) > _MOST:
            self._lexer = None

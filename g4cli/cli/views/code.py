"""Highlight the syntax of code, line by line, as each line is finished."""

from __future__ import annotations

from typing import Any, Final

from rich.style import Style
from rich.syntax import ANSI_DARK, ANSISyntaxTheme, Syntax
from rich.text import Text

# Blue is too dark on black; bright colors and yellow are too pale on white.
_COLORS: Final = {
    "blue": "magenta",
    "bright_blue": "magenta",
    "bright_cyan": "cyan",
    "bright_green": "green",
    "bright_magenta": "magenta",
    "bright_red": "red",
    "yellow": "green",
}


def _make_readable(style: Style) -> Style:
    """Return `style` in a color that can be read on light and on dark backgrounds."""
    name = style.color.name if style.color else ""
    return style + Style(color=_COLORS[name]) if name in _COLORS else style


_THEME: Final = ANSISyntaxTheme(
    {token: _make_readable(style) for token, style in ANSI_DARK.items()}
)
# A lexer needs the lines before the current one, which may be inside a docstring or a comment. From
# _ENOUGH lines on, those before the last line that begins outside of both are forgotten. If there
# is no such line within _MOST lines, the rest of the code is shown without colors.
_ENOUGH, _MOST = 24, 200
_LONGEST: Final = 2_000  # characters; longer lines are not highlighted
_SPANNING: Final = ("String", "Comment", "Heredoc")


class Highlighter:
    """Colors for one block of code in `language`, a name that Pygments knows, or "" for none."""

    def __init__(self, language: str) -> None:
        self._lexer: Any = Syntax("", language).lexer if language else None
        if self._lexer is not None:
            self._lexer.tabsize = 0  # do not expand tabs
        self._before: list[str] = []

    def highlight_line(self, text: str) -> Text:
        """Return the next line of the code, `text` without its newline, in colors."""
        if self._lexer is None or len(text) > _LONGEST:
            return Text(text)
        self._before.append(text)
        rows = self._lex_lines()
        if len(self._before) > _ENOUGH:
            self._forget_lines(rows)
        parts = rows[-1] if rows else []
        if "".join(part for _, part in parts) != text:  # some lexers change the text
            return Text(text)
        line = Text()
        for kind, part in parts:
            line.append(part, _THEME.get_style_for_token(kind))
        return line

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
        """Forget the lines before the last one that begins outside of strings and comments."""
        for index in range(len(rows) - 1, _ENOUGH // 2, -1):
            if rows[index] and not any(word in str(rows[index][0][0]) for word in _SPANNING):
                del self._before[:index]
                return
        if len(self._before) > _MOST:
            self._lexer = None

"""Highlight the syntax of code with Pygments, line by line, as each line is finished."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from rich.style import Style
from rich.syntax import ANSI_DARK, ANSISyntaxTheme
from rich.text import Text

from g4cli.chat.code_lexer import find_lexer

# Colors of rich's theme, and those to use in their place: blue is too dark on black; bright colors
# and yellow are too pale on white.
_REPLACED_COLORS: Final = {
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
    return style + Style(color=_REPLACED_COLORS[name]) if name in _REPLACED_COLORS else style


_THEME: Final = ANSISyntaxTheme(
    {token: _make_readable(style) for token, style in ANSI_DARK.items()}
)
# A lexer needs the lines before the current one, which may be inside a docstring or a comment. From
# _KEPT_LINES on, those before the last line that begins outside of both are forgotten. If there is
# no such line within _MAX_LINES, the rest of the code is shown without colors. A choice: 24 lines
# are lexed in a few milliseconds, and hardly any docstring has 200.
_KEPT_LINES, _MAX_LINES = 24, 200
_MAX_LENGTH: Final = 2_000  # characters of a line; longer ones, such as data, have no colors
# Parts of the names of token types that may span lines ("Token.Literal.String.Doc").
_SPANNING_TYPES: Final = ("String", "Comment", "Heredoc")

LexedToken: TypeAlias = tuple[Any, str]
"""Pygments' type of a token, and its text."""


class Highlighter:
    """Colors for one block of code in `language`, a name that Pygments knows, or "" for none."""

    def __init__(self, language: str) -> None:
        self._lexer = find_lexer(language)
        self._lines: list[str] = []  # that are remembered, the current one last

    def highlight_line(self, text: str) -> Text:
        """Return the next line of the code, `text` without its newline, in colors."""
        if self._lexer is None or len(text) > _MAX_LENGTH:
            return Text(text)
        self._lines.append(text)
        lexed = self._lex_lines()
        if len(self._lines) > _KEPT_LINES:
            self._forget_lines(lexed)
        tokens = lexed[-1] if lexed else []
        if "".join(part for _, part in tokens) != text:  # some lexers change it: no colors then
            return Text(text)
        line = Text()
        for token_type, part in tokens:
            line.append(part, _THEME.get_style_for_token(token_type))
        return line

    def _lex_lines(self) -> list[list[LexedToken]]:
        """Return the tokens of each remembered line; one that spans lines is a part of each."""
        lexed: list[list[LexedToken]] = [[]]
        for token_type, value in self._lexer.get_tokens("\n".join([*self._lines, ""])):
            for index, part in enumerate(value.split("\n")):
                if index:
                    lexed.append([])
                if part:
                    lexed[-1].append((token_type, part))
        return lexed[: len(self._lines)]

    def _forget_lines(self, lexed: list[list[LexedToken]]) -> None:
        """Forget the lines before the last one that begins outside of strings and comments."""
        # Half of the lines stay, so that this is not done again at once.
        for index in range(len(lexed) - 1, _KEPT_LINES // 2, -1):
            if not lexed[index]:
                continue  # an empty line, which may be inside of a string
            first_type, _ = lexed[index][0]
            if not any(word in str(first_type) for word in _SPANNING_TYPES):
                del self._lines[:index]
                return
        if len(self._lines) > _MAX_LINES:
            self._lexer = None

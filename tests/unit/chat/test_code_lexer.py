"""Which of Pygments' lexers color the code of answers."""

from __future__ import annotations

import html
import re

import pytest

from g4cli.chat.code_lexer import find_lexer
from g4cli.cli.views.code import Highlighter
from g4cli.core.visible import escape_invisible
from g4cli.server.page_routes.markdown import render_code

TRACEBACK = '  File "x.py", line 12 in f'


@pytest.mark.parametrize("language", ["pycon", "python-console", "pytb", "PY3TB", "maple"])
def test_code_that_a_lexer_never_ends_is_plain(language: str) -> None:
    assert find_lexer(language) is None
    assert Highlighter(language).highlight_line(TRACEBACK).plain == TRACEBACK
    assert render_code(TRACEBACK, language) == TRACEBACK


@pytest.mark.parametrize("language", ["console", "robotframework", "tnt", "python", ""])
@pytest.mark.parametrize("code", ["$ ls\nfile.txt", "\n\n x\n", "a\r\nb", "\ufeffa", ""])
def test_no_part_of_the_code_is_lost(language: str, code: str) -> None:
    page = html.unescape(re.sub("<[^>]*>", "", render_code(code, language)))
    assert page == escape_invisible(code)


def test_code_within_a_text_is_not_colored_by_another_lexer() -> None:
    source = f"```pycon\n{TRACEBACK}\n```\n"
    lexer = find_lexer("markdown")
    assert "".join(text for _, text in lexer.get_tokens(source)) == source
    assert '<span class="nt">&lt;svg</span>' in render_code("<svg/>", "svg")

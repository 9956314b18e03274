"""Quote names and paths: for shell commands, so that hints can be copied, and for Markdown."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from g4cli.core.visible import one_line


def shell_word(value: str | Path) -> str:
    """Return `value` as one word of a shell command, quoted only where necessary.

    A path that begins with a dash gets `./` before it, so that no program takes it for an option.
    Characters that do not print (newlines, escape sequences, text direction) and bytes that are not
    UTF-8 become escapes inside `$'...'`, which bash, zsh and ksh understand: a name never adds a
    line to a message.
    """
    word = str(value)
    if isinstance(value, Path) and word.startswith("-"):
        word = f"./{word}"
    return shlex.quote(word) if word.isprintable() else f"$'{''.join(map(_escape_char, word))}'"


def shell_command(*words: str | Path) -> str:
    """Return a command line: shell_command("g4", "doctor", path)."""
    return " ".join(map(shell_word, words))


def code_span(text: str) -> str:
    """Return `text` as a Markdown code span on one line.

    The fence is longer than any run of backticks in the text, and a space keeps a backtick or space
    at its ends apart from it (CommonMark 0.31, 6.1).
    """
    text = one_line(text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if not text.strip() or text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}" if text else ""


def _escape_char(char: str) -> str:
    if char.isprintable() and char not in "'\\":
        return char
    # A surrogate that stands for a byte is that byte; others come from JSON.
    errors = "surrogateescape" if "\udc80" <= char <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", errors))

"""Quote names and paths for shell commands, so that hints can be copied into a terminal."""

from __future__ import annotations

import shlex
from pathlib import Path


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


def _escape_char(char: str) -> str:
    if char.isprintable() and char not in "'\\":
        return char
    # A surrogate that stands for a byte is that byte; others come from JSON.
    errors = "surrogateescape" if "\udc80" <= char <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", errors))

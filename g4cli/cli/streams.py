"""Make standard input, output and error usable if they are closed, not UTF-8, or on a full disk."""

from __future__ import annotations

import codecs
import io
import os
import sys
from types import MappingProxyType
from typing import Final

from g4cli.core.errors import G4Error, NoSpace
from g4cli.core.files import FULL_DISK

# Replacements for the characters that g4 draws with, where the encoding lacks them (LANG=C, old
# consoles). The parts of a memory bar stay distinguishable.
ASCII_REPLACEMENTS: Final = MappingProxyType(
    {
        "█": "#", "▙": "H", "▌": "I", "▖": "L", "▓": "=", "▚": "~", "▒": "%", "▞": "/", "░": ":",
        "╎": "|", "┆": ";", "·": ".", "─": "-", "…": "...", "✓": "+",
        "✗": "x", "←": "<-", "→": "->", "±": "+-", "≥": ">=", "≤": "<=", "×": "x", "•": "*",
    }
)  # fmt: skip


def repair_std_streams() -> None:
    """Replace a closed stream (`g4 list >&-`) by /dev/null; show ASCII on one without UTF-8.

    /dev/null also keeps the system from giving file descriptors 0 to 2 to a file that g4 opens,
    into which llama.cpp would then print. Bytes of standard input that are invalid in its encoding
    become U+FFFD.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if name == "stdin" else _ASCII_ERRORS)


# The name of the codec error handler below.
_ASCII_ERRORS: Final = "g4-ascii"


def _replace_by_ascii(err: UnicodeError) -> tuple[str, int]:
    """Return a replacement for characters that a stream cannot encode, and the index after them."""
    if not isinstance(err, UnicodeEncodeError):
        raise err
    return "".join(
        ASCII_REPLACEMENTS.get(char, "?") for char in err.object[err.start : err.end]
    ), err.end


codecs.register_error(_ASCII_ERRORS, _replace_by_ascii)


def as_output_error(err: OSError) -> G4Error | None:
    """Return the error for an output that cannot be written, or None for any other `err`."""
    # An error of an opened file has its name, one of a standard stream has none.
    if err.filename is None and err.errno in FULL_DISK:
        return NoSpace(f"the output cannot be written: {os.strerror(err.errno)}", hint="df -h")
    return None


def silence_stdout() -> None:
    """Discard further standard output, which Python would otherwise fail to flush at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""Standard input, output and error as a shell may hand them over: closed, narrow, full or gone."""

from __future__ import annotations

import codecs
import io
import os
import sys
from types import MappingProxyType
from typing import Final

from g4cli.core.errors import G4Error, NoSpace
from g4cli.core.files import FULL_DISK

# What g4 draws with, for an encoding that lacks it (LANG=C, a printer, an old console). The terms of a memory
# bar stay apart.
ASCII: Final = MappingProxyType(
    {
        "█": "#", "▓": "=", "▒": "%", "░": ":", "·": ".", "─": "-", "…": "...", "✓": "+", "✗": "x",
        "←": "<-", "→": "->", "±": "+-", "≥": ">=", "≤": "<=", "×": "x", "•": "*",
    }
)  # fmt: skip


def take_streams() -> None:
    """Make the streams fit to use: a closed one (`g4 list >&-`) is empty, a narrow one shows ASCII.

    Also keeps the file descriptors 0 to 2 from being given to a file, where llama.cpp's messages would land.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if name == "stdin" else _NARROW)


_NARROW: Final = "g4-narrow"


def _in_ascii(err: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that a stream cannot encode, and where to go on."""
    if not isinstance(err, UnicodeEncodeError):
        raise err
    return "".join(ASCII.get(char, "?") for char in err.object[err.start : err.end]), err.end


codecs.register_error(_NARROW, _in_ascii)


def fault_of(err: OSError) -> G4Error | None:
    """Return what to tell of a failure to write the output, or None if `err` is about something else."""
    if err.filename is None and err.errno in FULL_DISK:
        return NoSpace(f"the output cannot be written: {os.strerror(err.errno)}", hint="df -h")
    return None


def let_go() -> None:
    """Write nothing more to standard output: Python would complain of what is left when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

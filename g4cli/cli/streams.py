"""Standard input, output and error as a shell may pass them: closed, without UTF-8, full, or a
closed pipe.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from types import MappingProxyType
from typing import Final

from g4cli.core.errors import G4Error, NoSpace
from g4cli.core.files import FULL_DISK

# What g4 draws with, for encodings that lack it (LANG=C, a printer, an old console). The parts of a
# memory bar stay distinguishable.
ASCII: Final = MappingProxyType(
    {
        "█": "#", "▓": "=", "▒": "%", "░": ":", "·": ".", "─": "-", "…": "...", "✓": "+", "✗": "x",
        "←": "<-", "→": "->", "±": "+-", "≥": ">=", "≤": "<=", "×": "x", "•": "*",
    }
)  # fmt: skip


def repair_std_streams() -> None:
    """Make the streams usable: a closed one (`g4 list >&-`) becomes /dev/null, one without UTF-8
    shows ASCII.

    This also keeps file descriptors 0 to 2 from being given to a file, into which llama.cpp would
    print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if name == "stdin" else _NARROW)


_NARROW: Final = "g4-narrow"


def _replace_by_ascii(err: UnicodeError) -> tuple[str, int]:
    """Return the replacement of characters that a stream cannot encode, and the index after them."""
    if not isinstance(err, UnicodeEncodeError):
        raise err
    return "".join(ASCII.get(char, "?") for char in err.object[err.start : err.end]), err.end


codecs.register_error(_NARROW, _replace_by_ascii)


def as_output_error(err: OSError) -> G4Error | None:
    """Return the error of an output that cannot be written, or None if `err` is about something
    else.
    """
    if err.filename is None and err.errno in FULL_DISK:
        return NoSpace(f"the output cannot be written: {os.strerror(err.errno)}", hint="df -h")
    return None


def silence_stdout() -> None:
    """Discard all further standard output: Python would report what it cannot flush when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""Identify files that are not GGUF by their first bytes, and say what to do about them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from g4cli.core.errors import BadGGUF, NotGGUF
from g4cli.core.gguf_cursor import Limits
from g4cli.core.quoting import shell_command

HEAD_BYTES: Final = 512
"""How many first bytes `not_a_gguf` needs, if the file has as many."""

_DOWNLOAD_AGAIN: Final = "download it again: the server sent an error page"
_OTHER_FORMAT: Final = "get a GGUF of this model: g4 pull MODEL"

# First bytes, what such a file is, what to do.
_SIGNATURES: Final = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "git lfs pull"),
    (b"<!DOCTYPE", "an HTML page, not a model", _DOWNLOAD_AGAIN),
    (b"<!doctype", "an HTML page, not a model", _DOWNLOAD_AGAIN),
    (b"<htm", "an HTML page, not a model", _DOWNLOAD_AGAIN),
    (b'{"er', "a JSON error message, not a model", "download it again: the server sent an error"),
    (b"PK\x03\x04", "a zip archive", "unpack it first"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x80\x02", "a Python pickle, as PyTorch saves checkpoints", _OTHER_FORMAT),
    (b"tjgg", "the old GGJT format of 2023", _OTHER_FORMAT),
    (b"fmgg", "the old GGMF format of 2023", _OTHER_FORMAT),
    (b"lmgg", "the old GGML format of 2023", _OTHER_FORMAT),
    (b"FUGG", "a GGUF of the other byte order", "get the little-endian file"),
)  # fmt: skip
_SAFETENSORS_HEADER_BYTES: Final = 100_000_000  # the limit of the safetensors library
_PREAMBLE_BYTES: Final = 24  # of a GGUF: magic and version of 4 bytes each, two counts of 8


def is_safetensors(head: bytes) -> bool:
    """Return whether `head` begins a safetensors file: a JSON header behind its length (u64)."""
    length = int.from_bytes(head[:8], "little")
    # The shortest header is {}.
    return len(head) > 8 and 2 <= length <= _SAFETENSORS_HEADER_BYTES and head[8:9] == b"{"


def not_a_gguf(head: bytes, path: Path | str) -> BadGGUF:
    """Return the error for a file whose first bytes are `head` and whose magic is not GGUF's.

    NotGGUF for another kind of file; plain BadGGUF where the bytes behind the magic are a GGUF's,
    so that the file is a damaged GGUF.
    """
    if not head:
        return NotGGUF(path, "an empty file", hint="download it again")
    if _is_preamble(head):
        return BadGGUF(
            path,
            f"damaged: the first 4 bytes are {_hex_text(head)}, expected 47 47 55 46 (GGUF)",
            offset=0,
            hint=f"download it again, or {shell_command('g4', 'doctor', path)}",
        )
    what, hint = _describe_head(head, path)
    return NotGGUF(path, what, hint=hint)


def _describe_head(head: bytes, path: Path | str) -> tuple[str, str]:
    for start, what, hint in _SIGNATURES:
        if head.startswith(start):
            return what, hint
    if is_safetensors(head):
        folder = Path(path).parent
        return "a safetensors file, part of a checkpoint", shell_command("g4", "convert", folder)
    if not any(head):
        return "zeros: space was reserved but the data never arrived", "download it again"
    if _is_text(head):
        return "a text file", "g4 list"
    return f"a file of an unknown kind (it begins with {_hex_text(head)})", "g4 list"


def _is_preamble(head: bytes) -> bool:
    """Return whether version and counts behind the magic are those of a GGUF."""
    version = int.from_bytes(head[4:8], "little")
    counts = [int.from_bytes(head[at : at + 8], "little") for at in (8, 16)]
    return (
        len(head) >= _PREAMBLE_BYTES
        and version in Limits.VERSIONS
        and any(counts)
        and max(counts) <= Limits.TENSORS
    )


def _is_text(head: bytes) -> bool:
    # The head may end inside a character, of which up to 3 bytes are there.
    text = head.decode("utf-8", "ignore")
    return len(text.encode()) >= len(head) - 3 and all(
        c.isprintable() or c in "\r\n\t\f" for c in text
    )


def _hex_text(head: bytes) -> str:
    return head[:4].hex(" ")


def checkpoint_folder_hint(path: Path) -> str | None:
    """Return the command that converts the Hugging Face checkpoint in `path`, or None."""
    # Path.is_file raises PermissionError in a folder that may not be searched; isfile is False.
    if not os.path.isfile(path / "config.json"):
        return None
    return shell_command("g4", "convert", path)

"""An update that changes only the header: publishers upload a file again with a newer chat
template.

The weights of the old file on this disk are the weights of the new one if both headers announce the
same tensors at the same places. Whether they really are is decided by the hash of the whole, as
ever.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from g4cli.core.errors import G4Error
from g4cli.core.gguf import read_header
from g4cli.core.gguf_header import Header
from g4cli.core.progress import Progress
from g4cli.hub.journal import Partial, Span

WORTH_BYTES: Final = 64 * 1024**2
"""Below this, fetching everything costs less than asking."""
_COPY_BYTES: Final = 1 << 22


def same_weights(old: Header, new: Header) -> bool:
    """Return whether both headers announce the same tensors, at the same places, and nothing
    else.
    """
    return (
        list(old.tensors.values()) == list(new.tensors.values())
        and bool(new.tensors)
        and old.file_size - old.data_offset == new.file_size - new.data_offset
    )


def seed_partial(
    partial: Partial, old: Path, new: Header, *, label: str, progress: Progress
) -> Span | None:
    """Copy the weights of the file `old` into `partial` and return where they lie there, None if
    they differ.

    Raises NoSpace.
    """
    try:
        header = read_header(old)
    except G4Error:
        return None
    if not same_weights(header, new):
        return None
    at, end = new.data_offset, new.file_size
    with old.open("rb") as file:
        file.seek(header.data_offset)
        while at < end:
            piece = file.read(min(_COPY_BYTES, end - at))
            if not piece:
                break
            partial.write(at, memoryview(piece))
            at += len(piece)
            progress(partial.have, partial.goal.nbytes, label)
    return new.data_offset, end

"""Reuse the weights on this disk for an update that changes only the header.

Publishers upload a file again with a newer chat template. The weights of the old file are those of
the new one if both headers list the same tensors at the same offsets. The hash of the whole file
verifies this afterwards, as always.
"""

from __future__ import annotations

from typing import Final

from g4cli.core.files import open_file
from g4cli.core.gguf_header import Header
from g4cli.core.progress import Progress
from g4cli.core.spans import Span
from g4cli.hub.journal import Partial

MIN_FILE_BYTES: Final = 64 * 1024**2
"""A choice: a smaller file is downloaded in the time that the requests for its header take."""
_COPY_BYTES: Final = 1 << 22  # copied at once: a choice


def same_weights(old: Header, new: Header) -> bool:
    """Return whether both headers list the same tensors at the same offsets, and no more data."""
    return (
        list(old.tensors.values()) == list(new.tensors.values())
        and bool(new.tensors)
        and old.file_size - old.data_offset == new.file_size - new.data_offset
    )


def copy_weights(
    partial: Partial, old: Header, new: Header, *, label: str, progress: Progress
) -> Span | None:
    """Copy the weights of `old` into `partial`; return their byte range, None if they differ.

    `old` is the header of a file on this disk, `new` that of the one to be fetched. Raises NoSpace.
    """
    if not same_weights(old, new):
        return None
    at, end = new.data_offset, new.file_size
    with open_file(old.path) as file:
        file.seek(old.data_offset)
        while at < end:
            piece = file.read(min(_COPY_BYTES, end - at))
            if not piece:
                break
            partial.write(at, memoryview(piece))
            at += len(piece)
            progress(partial.arrived_bytes, partial.goal.nbytes, label)
    return new.data_offset, end

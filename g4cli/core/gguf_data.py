"""Read the data of a tensor in pieces, without mapping the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from g4cli.core.errors import BadGGUF
from g4cli.core.files import open_file
from g4cli.core.gguf_header import Header, TensorInfo

_PIECE_BYTES: Final = 1 << 24  # a choice: large enough to need few calls, small in memory


def iter_tensor(
    header: Header, tensor: TensorInfo, piece_bytes: int = _PIECE_BYTES
) -> Iterator[bytes]:
    """Yield the bytes of `tensor` in order, in pieces of whole rows of at most about `piece_bytes`.

    Raises BadGGUF if the file ends before the tensor does.
    """
    row = tensor.type.row_bytes(tensor.shape[0])
    step = max(1, piece_bytes // row) * row
    with open_file(header.path) as file:
        file.seek(header.file_offset(tensor))
        left = tensor.nbytes
        while left:
            data = file.read(min(step, left))
            # A short read would end inside a row.
            if len(data) < min(step, left):
                raise BadGGUF(header.path, "truncated", offset=file.tell(), field=tensor.name)
            left -= len(data)
            yield data

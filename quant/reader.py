"""The weights of a source, read block by block from mapped files."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import BadGGUF
from g4cli.core.files import open_file
from g4cli.core.ggml import BF16, F16, F32
from g4cli.core.row_blocks import Block, Rows
from g4cli.quant import native, sfp8
from g4cli.quant.encode import BLOCK_WEIGHTS
from g4cli.quant.source import Source

# About the bytes that are copied at once, a choice: 1 MiB, rounded to whole blocks of the type.
_COPY_BYTES: Final = 1 << 20


class Reader:
    """The weights of a source through memory maps: only the system's page cache holds them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._maps: dict[str, NDArray[np.uint8]] = {}

    def map_tensor(self, name: str) -> NDArray[np.uint8]:
        """Return the bytes of tensor `name` as stored in the file."""
        header = self._source.owner[name]
        tensor = header.tensors[name]
        if header.path not in self._maps:
            with open_file(header.path) as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[header.path] = np.frombuffer(mapped, np.uint8)
        start = header.file_offset(tensor)
        return self._maps[header.path][start : start + tensor.nbytes]

    def copy_rows(self, name: str) -> Rows:
        """Return the tensor's bytes unchanged, in pieces of whole blocks; `start` counts bytes."""
        data = self.map_tensor(name)
        block_bytes = self._source.tensors[name].type.block_bytes
        step = max(1, _COPY_BYTES // block_bytes) * block_bytes
        return _split(data.nbytes, step, lambda start: data[start : start + step])

    def decode_rows(self, name: str) -> Rows:
        """Return the tensor's weights in blocks of whole rows: uint16 words for BF16, else floats.

        SFP8 codes become BF16, float16 stays; all other types become float32. Raises BadGGUF for a
        type that ggml cannot decode.
        """
        tensor, data = self._source.tensors[name], self.map_tensor(name)
        exponent = self._source.coded.get(name)
        n, n_rows = tensor.shape[0], prod(tensor.shape[1:])
        row_bytes = n if exponent is not None else tensor.type.row_bytes(n)
        step = max(1, BLOCK_WEIGHTS // n)
        if not native.can_decode(tensor.type):
            raise BadGGUF(
                self._source.owner[name].path,
                f"{tensor.type.name} weights cannot be read",
                field=name,
            )

        def decode_block(start: int) -> NDArray[Any]:
            count = min(step, n_rows - start)
            piece = data[start * row_bytes : (start + count) * row_bytes]
            if exponent is not None:
                return sfp8.decode_bf16(piece, exponent).reshape(count, n)
            dtype = {F32: "<f4", F16: "<f2", BF16: "<u2"}.get(tensor.type)
            if dtype is None:
                return native.decode_rows(tensor.type, piece, (count, n))
            return piece.view(dtype).reshape(count, n)

        return _split(n_rows, step, decode_block)


def _split(n: int, step: int, read: Callable[[int], NDArray[Any]]) -> Rows:
    """Return `n` rows or bytes as blocks of `step`; `read` returns the block from a start on."""
    return lambda: (Block(start, partial(read, start)) for start in range(0, n, step))

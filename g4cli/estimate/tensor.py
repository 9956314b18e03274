"""The description of a tensor that the estimator needs: no data, and no file that holds it."""

from __future__ import annotations

from typing import Protocol

from g4cli.core.ggml import GGMLType


class Tensor(Protocol):
    """A tensor to be loaded, such as gguf_header.TensorInfo and gguf_write.TensorSpec."""

    @property
    def name(self) -> str:
        """The name in the GGUF."""

    @property
    def type(self) -> GGMLType:
        """The type that its weights are stored in."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents; `shape[0]` is the row length."""

    @property
    def nbytes(self) -> int:
        """The size of its data in bytes."""

"""The changes of layout and value on the way from a checkpoint to a GGUF, as lazy views.

A transform takes the stored array (a view of the file) and gives a view of what is to be written;
`value` transforms then act on float32 blocks. Views keep the memory constant: only row blocks are
ever copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

View: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
Value: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def as_is(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array`; a scalar becomes one element.

    Source: conversion/gemma.py (unsqueeze), llama.cpp@0c1e57098.
    """
    return array.reshape(1) if array.ndim == 0 else array


def drop_middle(array: NDArray[Any]) -> NDArray[Any]:
    """Return [n, 1, k] as [n, k]: a depthwise convolution's kernel."""
    view: NDArray[Any] = array.reshape(array.shape[0], array.shape[2])
    return view


def patches_to_chw(array: NDArray[Any]) -> NDArray[Any]:
    """Return [n, p*p*3] as a view [n, 3, p, p], the order of ggml's conv_2d.

    The second axis is in the order (row, column, color).
    """
    n, width = array.shape
    side = round((width // 3) ** 0.5)
    view: NDArray[Any] = array.reshape(n, side, side, 3).transpose(0, 3, 1, 2)
    return view


def columns_to_chw(array: NDArray[Any]) -> NDArray[Any]:
    """Return [..., p*p*3] with its last axis reordered to (color, row, column) and split.

    It was in the order (row, column, color). ggml's im2col gives RR..GG..BB..; the weights expect
    RGBRGB.. (conversion/gemma.py, llama.cpp@0c1e57098).
    """
    width = array.shape[-1]
    side = round((width // 3) ** 0.5)
    return np.moveaxis(array.reshape(*array.shape[:-1], side, side, 3), -1, -3)


def swap_first_two(array: NDArray[Any]) -> NDArray[Any]:
    """Return [a, b, c] as a view [b, a, c]."""
    view: NDArray[Any] = array.transpose(1, 0, 2)
    return view


def softplus(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log(1 + e^x), rounded once; x itself above 20, as torch.nn.functional.softplus has it.

    torch computes in float32 and is up to one unit in the last place off, by how many numbers its
    processor takes at a time.
    """
    wide = x.astype(np.float64)
    return np.where(x > 20, wide, np.log1p(np.exp(np.minimum(wide, 20)))).astype(np.float32)

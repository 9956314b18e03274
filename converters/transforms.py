"""The changes of layout and value between a checkpoint and a GGUF.

A `ViewTransform` takes the stored array (a view of the file) and returns a view of what is to be
written; a `ValueTransform` then acts on float32 blocks. Because of the views memory stays constant:
only row blocks are copied. The Rows of the networks (names.py) choose among these functions.
`claim_tensors` has compared the shape of every array with its Row's before one is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

ViewTransform: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
ValueTransform: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def as_is(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array`, a scalar as an array of one element.

    Source: conversion/gemma.py (unsqueeze), llama.cpp@0c1e57098.
    """
    return array.reshape(1) if array.ndim == 0 else array


def drop_middle(array: NDArray[Any]) -> NDArray[Any]:
    """Return [n, 1, k] as [n, k]: the kernels of a depthwise convolution, one for each channel."""
    view: NDArray[Any] = array.reshape(array.shape[0], array.shape[2])
    return view


def move_colors_first(array: NDArray[Any]) -> NDArray[Any]:
    """Return [..., p*p*3], in the order (row, column, color), as a view [..., 3, p, p].

    The weights of a patch are for pixels as RGBRGB.., but ggml's conv_2d and im2col take or give
    RR..GG..BB.. (conversion/gemma.py, llama.cpp@0c1e57098).
    """
    width = array.shape[-1]
    side = round((width // 3) ** 0.5)
    return np.moveaxis(array.reshape(*array.shape[:-1], side, side, 3), -1, -3)


def swap_first_two(array: NDArray[Any]) -> NDArray[Any]:
    """Return [a, b, c] as a view [b, a, c]."""
    view: NDArray[Any] = array.transpose(1, 0, 2)
    return view


def apply_softplus(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log(1 + e^x), or x itself above 20, as torch.nn.functional.softplus does.

    It is computed in float64 and rounded once. torch computes in float32 and may differ by one unit
    in the last place, depending on its vector instructions.
    """
    wide = x.astype(np.float64)
    return np.where(x > 20, wide, np.log1p(np.exp(np.minimum(wide, 20)))).astype(np.float32)

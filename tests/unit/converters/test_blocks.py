"""Row blocks of views in any layout, and the plain types."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from g4cli.converters.blocks import PlainCoder, Tensor, is_finite, to_bf16, to_plain
from g4cli.converters.transforms import (
    apply_softplus,
    drop_middle,
    move_colors_first,
    swap_first_two,
)
from g4cli.core import ggml
from g4cli.core.gguf_header import TensorSpec


def rows_of(view: NDArray[Any], row: int, weights: int) -> list[NDArray[Any]]:
    return [block.read() for block in Tensor(view, row, "x", {}).iter_blocks(weights)]


@pytest.mark.parametrize("weights", [1, 7, 24, 100, 10_000])
@pytest.mark.parametrize(
    ("shape", "view", "merge"),
    [
        ((30, 8), lambda a: a, 1),
        ((240,), lambda a: a, 1),
        ((3, 10, 8), lambda a: a, 1),
        ((5, 6, 8), swap_first_two, 1),
        ((10, 1, 24), drop_middle, 1),
        ((5, 48), move_colors_first, 1),
        ((5, 48), move_colors_first, 3),
        ((48,), move_colors_first, 3),
    ],
)
def test_blocks_are_the_view_in_order(
    shape: tuple[int, ...],
    view: Callable[[Any], Any],
    merge: int,
    weights: int,
) -> None:
    array = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    seen = view(array)
    row = int(np.prod(seen.shape[seen.ndim - merge :]))
    found = rows_of(seen, row, weights)
    assert (
        np.concatenate(found).reshape(-1).tolist()
        == np.ascontiguousarray(seen).reshape(-1).tolist()
    )
    starts = [b.start for b in Tensor(seen, row, "x", {}).iter_blocks(weights)]
    assert starts == np.cumsum([0] + [len(f) for f in found[:-1]]).tolist()


def test_pixels_go_from_rgbrgb_to_planes() -> None:
    # one patch of 2 x 2 pixels, color c of pixel (y, x) numbered 100 c + 10 y + x
    hwc = np.array(
        [100 * c + 10 * y + x for y in range(2) for x in range(2) for c in range(3)], np.float32
    )
    chw = [100 * c + 10 * y + x for c in range(3) for y in range(2) for x in range(2)]
    assert np.ascontiguousarray(move_colors_first(hwc)).reshape(-1).tolist() == chw


def test_softplus() -> None:
    x = np.array([-100, -1, 0, 1, 19.9, 20, 20.1, 500], np.float32)
    want = [3.783506e-44, 0.31326169, 0.69314718, 1.31326169, 19.9, 20, 20.1, 500]
    assert np.allclose(apply_softplus(x), want, rtol=1e-6)
    assert apply_softplus(x).dtype == np.float32


FLOATS = hnp.arrays(
    np.float32, 64, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)


@pytest.mark.slow
@given(values=FLOATS)
def test_bf16_rounds_as_gguf_py(values: NDArray[np.float32]) -> None:
    assert to_bf16(values).tobytes() == quantize(values, GGMLQuantizationType.BF16).tobytes()


@pytest.mark.slow
@given(values=FLOATS)
def test_widening_is_exact(values: NDArray[np.float32]) -> None:
    bits = to_bf16(values)
    assert (to_plain(ggml.F32, bits).view(np.uint32) >> 16).astype(
        np.uint16
    ).tolist() == bits.tolist()
    assert to_plain(ggml.BF16, bits) is bits  # nothing to do: not even a copy


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_every_kind_of_bad_number_is_seen(bad: float) -> None:
    good = np.array([0.0, -0.0, 1e-40, 65504.0, -3.3895314e38], np.float32)
    for values, fine in ((good, True), (np.append(good, np.float32(bad)), False)):
        assert is_finite(values) is fine
        assert is_finite((values.view(np.uint32) >> 16).astype(np.uint16)) is fine
    half = np.array([1, bad], np.float16)
    assert not is_finite(half)
    assert is_finite(half[:1])


def test_a_type_that_is_not_plain_is_refused() -> None:
    with pytest.raises(ValueError, match="Q4_0 is not an unquantized type"):
        to_plain(ggml.Q4_0, np.zeros(32, np.float32))


def test_many_threads_keep_the_order() -> None:
    arrays = [
        np.arange(i * 1000, i * 1000 + 320, dtype=np.float32).reshape(40, 8) for i in range(5)
    ]
    tensors = [
        (
            TensorSpec(f"t{i}", ggml.F32, (8, 40)),
            partial(Tensor(a, 8, "x", {}).iter_blocks, 16),
        )
        for i, a in enumerate(arrays)
    ]
    data = b"".join(PlainCoder(threads=4).encode_tensors(iter(tensors)))
    assert data == b"".join(a.tobytes() for a in arrays)


def test_an_expert_is_read_row_by_row() -> None:
    experts = np.zeros((4, 100, 64), np.uint16)
    found = rows_of(experts, 64, 640)
    assert {len(block) for block in found} == {10}

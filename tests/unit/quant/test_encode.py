"""The parallel encoder: order, and errors with a place."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from g4cli.core.errors import BadFile
from g4cli.core.ggml import BF16, BY_NAME, F16, F32, Q4_0, Q8_0, GGMLType
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.row_blocks import Block
from g4cli.quant import native
from g4cli.quant.encode import Job, open_encoder
from g4cli.quant.recipes import Recipe
from tests.support.builders.weights import bf16

VALUES = np.random.default_rng(2).normal(0, 0.02, (300, 256)).astype(np.float32)


def coded(
    spec: TensorSpec, array: NDArray[Any], recipe: Recipe, step: int = 1000, **options: Any
) -> bytes:
    """Encode `array`, shape (rows..., n), in blocks of `step` rows."""
    table = array.reshape(-1, array.shape[-1])
    blocks = [Block(i, partial(table.__getitem__, slice(i, i + step)))
              for i in range(0, len(table), step)]  # fmt: skip
    with open_encoder(recipe, **options) as encode:
        return b"".join(encode.encode_jobs([Job(spec, lambda: blocks)]))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 4])
def test_blocks_come_in_order(dtype: str, threads: int) -> None:
    source = {"float32": VALUES, "float16": VALUES.astype(np.float16), "bfloat16": bf16(VALUES)}[
        dtype
    ]
    exact = {
        "float32": VALUES,
        "float16": VALUES.astype(np.float16).astype(np.float32),
        "bfloat16": (bf16(VALUES).astype(np.uint32) << 16).view(np.float32),
    }[dtype]
    spec = TensorSpec("blk.0.ffn_up.weight", Q4_0, (256, 300))
    assert (
        coded(spec, source, Recipe("q4_0"), step=2, threads=threads)
        == native.encode_rows(Q4_0, exact).tobytes()
    )


def test_experts_are_rows_of_rows() -> None:
    spec = TensorSpec("blk.0.ffn_up_exps.weight", Q8_0, (256, 100, 3))
    cube = VALUES.reshape(3, 100, 256)
    assert coded(spec, cube, Recipe("q8_0")) == native.encode_rows(Q8_0, VALUES).tobytes()


def test_each_expert_has_its_own_importance() -> None:
    kind = BY_NAME["Q4_K"]
    spec = TensorSpec("blk.0.ffn_up_exps.weight", kind, (256, 100, 3))
    weights = np.random.default_rng(5).uniform(0.1, 5, (3, 256)).astype(np.float32)
    recipe, imatrix = Recipe("q4_k_m", has_imatrix=True), {spec.name: weights.reshape(-1)}
    ours = coded(spec, VALUES, recipe, step=70, imatrix=imatrix)  # blocks straddle the experts
    theirs = b"".join(
        native.encode_rows(kind, VALUES[i * 100 : i * 100 + 100], weights[i]).tobytes()
        for i in range(3)
    )
    assert ours == theirs


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_place_of_a_bad_weight(value: float) -> None:
    bad = VALUES.copy()
    bad[123, 45] = value
    spec = TensorSpec("blk.0.ffn_up.weight", Q4_0, (256, 300))
    with pytest.raises(BadFile, match="row 123, column 45"):
        coded(spec, bad, Recipe("q4_0"), step=10)


def test_large_finite_weights_are_not_called_infinite() -> None:
    """Their sum overflows, they do not."""
    huge = np.full((2, 256), 3e38, np.float32)
    spec = TensorSpec("blk.0.ffn_up.weight", F32, (256, 2))
    assert coded(spec, huge, Recipe("f32")) == huge.tobytes()


@pytest.mark.parametrize("kind", [F16, BF16, Q8_0], ids=lambda kind: kind.name)
def test_a_type_that_cannot_hold_the_weights_is_an_error(kind: GGMLType) -> None:
    huge = np.full((1, 32), np.finfo(np.float32).max)
    with pytest.raises(BadFile, match=f"overflow {kind.name}"):
        coded(TensorSpec("a.weight", kind, (32, 1)), huge, Recipe("f32"))


def test_sfp8_on_bfloat16_holds_only_sfp8_values() -> None:
    from g4cli.quant import sfp8

    spec = TensorSpec("blk.0.ffn_up.weight", BF16, (256, 300))
    for sigma in (0.0001, 1, 300):  # scaled up, about right, scaled down
        data = coded(spec, VALUES * np.float32(sigma), Recipe("sfp8", container="bf16"))
        words = np.frombuffer(data, "<u2")
        largest = float(np.abs(VALUES * np.float32(sigma)).max())
        k = sfp8.scale_exponent(largest)
        grid = set(sfp8.decode_bf16(np.arange(0x80, dtype=np.uint8), k).tolist())
        assert set((words & 0x7FFF).tolist()) <= grid
        expected = sfp8.decode_bf16(sfp8.encode_sfp8(VALUES * np.float32(sigma), k).codes, k)
        assert data == expected.tobytes()


def test_kept_tensors_are_not_rounded_by_the_sfp8_recipe() -> None:
    norm = TensorSpec("blk.0.attn_norm.weight", F32, (256,))
    assert coded(norm, VALUES[:1], Recipe("sfp8", container="bf16")) == VALUES[:1].tobytes()

"""ggml's coders by ctypes, compared with those of gguf-py."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from g4cli.core.errors import EngineMissing
from g4cli.core.ggml import BF16, BY_NAME, F16, F32
from g4cli.quant import native
from g4cli.quant.mixtures import NOT_ENCODED

QUANTS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    "IQ4_NL", "IQ4_XS",
          "MXFP4"]  # fmt: skip


def awkward(rows: int = 24, n: int = 512) -> NDArray[np.float32]:
    """Normal rows, then zeros, an outlier, tiny and huge values, ties and signed zeros."""
    rng = np.random.default_rng(7)
    values = rng.normal(0, 0.02, (rows, n)).astype(np.float32)
    values[1, :64] = 0
    values[2, :32] = -0.0
    values[3, 5] = 100
    values[4] *= np.float32(1e-7)
    values[5] *= np.float32(1e-30)
    values[6] *= np.float32(1e4)
    values[7, :64] = np.arange(-32, 32) / 8
    values[8, ::2] = 0.5
    values[9, ::2] = -0.5
    return values


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
def test_encoders_equal_gguf_py(name: str) -> None:
    # gguf-py keeps the sign of a block of -0; ggml's scale is 0 then.
    kind, values = BY_NAME[name], awkward() + np.float32(0)
    theirs = gguf.quants.quantize(values, gguf.GGMLQuantizationType[name])
    assert native.encode_rows(kind, values).tobytes() == theirs.tobytes()


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0"])
def test_scales_without_an_inverse_give_zeros(name: str) -> None:
    """There ggml converts infinity to an integer, which C leaves open; the scale is zero in either
    case.
    """
    kind, values = BY_NAME[name], np.full((1, 32), 1e-42, np.float32)
    assert not native.decode_rows(kind, native.encode_rows(kind, values), (1, 32)).any()


def test_every_bfloat16_boundary_rounds_as_gguf_py() -> None:
    top = np.arange(65536, dtype=np.uint32) << 16
    low = np.array([0, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    values = (top[:, None] | low).view(np.float32).reshape(1, -1)
    theirs = gguf.quants.quantize(values, gguf.GGMLQuantizationType.BF16)
    assert native.encode_rows(BF16, values).tobytes() == theirs.tobytes()
    words = np.arange(65536, dtype=np.uint16)
    decoded = native.decode_rows(BF16, words.view(np.uint8), (1, 65536))
    assert decoded.tobytes() == (words.astype(np.uint32) << 16).tobytes()


@pytest.mark.parametrize("name", QUANTS)
def test_decoders_equal_gguf_py(name: str) -> None:
    kind, values = BY_NAME[name], awkward()[:, :512]
    data = native.encode_rows(kind, values)
    theirs = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name])
    assert np.array_equal(native.decode_rows(kind, data, values.shape), theirs)


@pytest.mark.parametrize("name", QUANTS)
def test_coding_does_not_depend_on_the_cut(name: str) -> None:
    kind, values = BY_NAME[name], awkward()
    rows = np.concatenate([native.encode_rows(kind, values[i : i + 1]) for i in range(len(values))])
    assert np.array_equal(rows, native.encode_rows(kind, values))


def test_importance_matrix_has_an_effect_and_a_length() -> None:
    values = awkward(12, 256)
    weights = np.linspace(0.1, 9, 256, dtype=np.float32)
    kind = BY_NAME["Q4_K"]
    assert not np.array_equal(
        native.encode_rows(kind, values, weights), native.encode_rows(kind, values)
    )
    with pytest.raises(ValueError, match="imatrix"):
        native.encode_rows(kind, values, weights[:255])


def test_validity() -> None:
    values = np.full((1, 32), 1e6, np.float32)
    assert not native.is_valid(F16, native.encode_rows(F16, values))
    assert native.is_valid(BF16, native.encode_rows(BF16, values))
    assert native.is_valid(F32, native.encode_rows(F32, values))


def test_short_data_is_refused() -> None:
    with pytest.raises(ValueError, match="are needed"):
        native.decode_rows(BY_NAME["Q4_0"], np.zeros(17, np.uint8), (1, 32))


def test_every_type_that_may_be_named_can_be_encoded() -> None:
    """Calling ggml for one of NOT_ENCODED would end the process."""
    values, imatrix = awkward(12, 256), np.ones(256, np.float32)
    for kind in BY_NAME.values():
        # ggml needs seconds to make the tables of the smallest types.
        if kind.name not in NOT_ENCODED and not kind.name.startswith(("IQ1", "IQ2", "IQ3")):
            data = native.encode_rows(kind, values, imatrix)
            assert data.shape == (12, kind.row_bytes(256))


def test_a_missing_library_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "find_spec", lambda _: None)
    with pytest.raises(EngineMissing) as caught:
        native.library_path()
    assert caught.value.hint == "g4 doctor"


def test_a_broken_library_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "libggml-base.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(native, "library_path", lambda: broken)
    native.load_library.cache_clear()
    with pytest.raises(EngineMissing, match="cannot be used"):
        native.load_library()
    native.load_library.cache_clear()


def test_the_library_is_that_of_llama_cpp_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment variable by which llama_cpp finds its libraries holds for ggml's, too."""
    copy = tmp_path / native.library_path().name
    copy.touch()
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    assert native.library_path() == copy

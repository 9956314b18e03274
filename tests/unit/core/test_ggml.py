"""The table of tensor types equals the library's and gguf-py's."""

from __future__ import annotations

import ctypes
import sys

import gguf
import pytest

from g4cli.core import ggml
from g4cli.core.errors import UsageError
from g4cli.runtime.llama.installation import library_folder


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    suffix = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
    lib = ctypes.CDLL(str(library_folder() / f"libggml-base.{suffix}"))
    lib.ggml_type_name.restype = ctypes.c_char_p
    lib.ggml_type_size.restype = ctypes.c_size_t
    lib.ggml_blck_size.restype = ctypes.c_int64
    lib.ggml_row_size.restype = ctypes.c_size_t
    lib.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    return lib


@pytest.mark.parametrize("kind", ggml.TYPES, ids=lambda kind: kind.name)
def test_each_row_equals_the_library(kind: ggml.GGMLType, library: ctypes.CDLL) -> None:
    assert library.ggml_type_name(kind.id).decode().lower() == kind.name.lower()
    assert (library.ggml_blck_size(kind.id), library.ggml_type_size(kind.id)) == (
        kind.block_size,
        kind.block_bytes,
    )
    assert library.ggml_row_size(kind.id, 7 * kind.block_size) == kind.row_bytes(
        7 * kind.block_size
    )


def test_no_type_of_the_library_is_missing(library: ctypes.CDLL) -> None:
    known = {n for n in range(43) if library.ggml_blck_size(n) and library.ggml_type_size(n)}
    assert set(ggml.BY_ID) == known


def test_the_table_equals_gguf_py() -> None:
    sizes = {t.name: sizes for t, sizes in gguf.GGML_QUANT_SIZES.items()}
    ids = {t.name: t.value for t in gguf.GGML_QUANT_SIZES}
    for kind in ggml.TYPES:
        # The newest are not in gguf 0.19.0, which also gives Q8_1 (never in a file) 40 bytes; ggml
        # says 36.
        if kind.name in sizes and kind.name != "Q8_1":
            assert (kind.block_size, kind.block_bytes) == sizes[kind.name]
            assert kind.id == ids[kind.name]
    assert set(sizes) <= set(ggml.BY_NAME)


def test_sizes_of_tensors() -> None:
    # Q4_0: a row of 64 is two blocks of 2 + 16 bytes; three rows.
    assert ggml.Q4_0.tensor_bytes((64, 3)) == 108
    assert ggml.Q4_0.bits_per_weight == 4.5
    assert ggml.F32.tensor_bytes((5,)) == 20
    assert (ggml.Q4_0.is_quantized, ggml.BF16.is_quantized) == (True, False)
    with pytest.raises(ValueError, match="block of 32"):
        ggml.Q4_0.row_bytes(33)


def test_types_by_name() -> None:
    assert ggml.ggml_type("q4_0") is ggml.Q4_0
    with pytest.raises(UsageError, match="q9_9") as caught:
        ggml.ggml_type("q9_9")
    assert "q4_0" in (caught.value.hint or "")

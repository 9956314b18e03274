"""ggml's own encoders and decoders in libggml-base, called through ctypes, which releases the GIL.

The library is the one that llama-cpp-python installs. It is found without importing that package:
loading all of llama.cpp takes 0.2 s and fails if any other library does. Signatures:
ggml/include/ggml.h and ggml/src/ggml-quants.h, ggml-org/llama.cpp@0c1e57098.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import EngineMissing
from g4cli.core.ggml import BF16, F16, F32, GGMLType

_NAMES: Final = ("libggml-base.so", "libggml-base.dylib", "ggml-base.dll", "libggml-base.dll")
_HINT: Final = "g4 doctor"


def library_path() -> Path:
    """Return the path of libggml-base.

    Raises EngineMissing if llama-cpp-python or the library is absent.
    """
    spec = find_spec("llama_cpp")
    folders = [Path(p) / "lib" for p in (spec.submodule_search_locations or ())] if spec else []
    if (override := os.environ.get("LLAMA_CPP_LIB_PATH")) is not None:  # as llama_cpp has it
        folders = [Path(override)]
    for folder in folders:
        for name in _NAMES:
            if (folder / name).is_file():
                return folder / name
    raise EngineMissing(
        "ggml's library (libggml-base of llama-cpp-python) is not installed", hint=_HINT
    )


@lru_cache(maxsize=1)
def load_library() -> ctypes.CDLL:
    """Return the loaded library with its signatures set. Raises EngineMissing."""
    path = library_path()
    try:
        lib = ctypes.CDLL(str(path))
        _declare_functions(lib)
    except (OSError, AttributeError) as err:
        raise EngineMissing(f"{path} cannot be used: {err}", hint=_HINT) from err
    return lib


def _declare_functions(lib: ctypes.CDLL) -> None:
    pointer, i64, size = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = (ctypes.c_int, pointer, pointer, i64, i64, i64, pointer)
    lib.ggml_quantize_chunk.restype = size
    lib.ggml_quantize_requires_imatrix.argtypes = (ctypes.c_int,)
    lib.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    lib.ggml_validate_row_data.argtypes = (ctypes.c_int, pointer, size)
    lib.ggml_validate_row_data.restype = ctypes.c_bool


def needs_imatrix(kind: GGMLType) -> bool:
    """Return whether ggml aborts the process if `kind` is encoded without an importance matrix."""
    return bool(load_library().ggml_quantize_requires_imatrix(kind.id))


def encode_rows(
    kind: GGMLType, values: NDArray[np.float32], imatrix: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """Return the bytes of `values` (rows, n) in `kind`, shape (rows, row bytes).

    `imatrix` holds one weight per column. Each row is encoded on its own, so a tensor may be
    encoded in several calls.
    """
    rows, n = values.shape
    source = np.ascontiguousarray(values, dtype=np.float32)
    target = np.empty((rows, kind.row_bytes(n)), np.uint8)
    weights = None if imatrix is None else np.ascontiguousarray(imatrix, dtype=np.float32)
    if weights is not None and weights.shape != (n,):
        raise ValueError(f"imatrix of shape {weights.shape} for rows of {n}")
    n_written = load_library().ggml_quantize_chunk(
        kind.id,
        source.ctypes.data,
        target.ctypes.data,
        0,  # the first row to encode
        rows,
        n,
        None if weights is None else weights.ctypes.data,
    )
    if n_written != target.nbytes:
        raise RuntimeError(f"ggml wrote {n_written} bytes of {kind.name}, expected {target.nbytes}")
    return target


def decode_rows(kind: GGMLType, data: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return `data` (the bytes of whole rows, at least `shape`'s) as float32 of `shape` (rows, n).

    Raises ValueError for too few bytes, or a type that ggml cannot decode.
    """
    raw = data.reshape(-1).view(np.uint8)
    rows, n = shape
    need = rows * kind.row_bytes(n)
    if raw.nbytes < need:
        raise ValueError(
            f"{raw.nbytes} bytes for {rows} rows of {n} {kind.name}: {need} are needed"
        )
    if kind is F32:
        return raw[:need].view("<f4").reshape(shape)
    decode = _find_decoder(kind)
    if decode is None:
        raise ValueError(f"ggml cannot decode {kind.name}")
    values = np.empty(shape, np.float32)
    decode(raw.ctypes.data, values.ctypes.data, rows * n)
    return values


def can_decode(kind: GGMLType) -> bool:
    """Return whether `decode_rows` can decode `kind`."""
    return kind is F32 or _find_decoder(kind) is not None


def is_valid(kind: GGMLType, data: NDArray[np.uint8]) -> bool:
    """Return whether no scale or value in `data` (whole rows of `kind`) is NaN or infinite."""
    flat = np.ascontiguousarray(data)
    return bool(load_library().ggml_validate_row_data(kind.id, flat.ctypes.data, flat.nbytes))


@lru_cache(maxsize=64)
def _find_decoder(kind: GGMLType) -> Any:
    """Return ggml's function that decodes `kind`, None if it has none."""
    name = kind.name.lower()
    name = "dequantize_row_" + (name[:-1] + "K" if name.endswith("_k") else name)
    name = {F16: "ggml_fp16_to_fp32_row", BF16: "ggml_bf16_to_fp32_row"}.get(kind, name)
    decode = getattr(load_library(), name, None)
    if decode is not None:
        decode.argtypes, decode.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64), None
    return decode

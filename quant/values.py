"""Operations on one block of weights: decode to float32, check, encode, count zero blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import BadFile
from g4cli.core.ggml import BF16, F32, PLAIN_TYPES, GGMLType
from g4cli.core.gguf_header import TensorSpec
from g4cli.quant import native

DIAGNOSE: Final = "g4 doctor FILE"  # `quantize_file` replaces it by the command for its source
_BF16_INFINITY: Final = PLAIN_TYPES["BF16"].infinity
# Bounds of clipped layers in vision and audio encoders; infinite where training set none
# (Gemma4ClippableLinear, transformers 5.23.0).
_LIMITS: Final = ("input_min", "input_max", "output_min", "output_max")


def encode_values(
    spec: TensorSpec, values: NDArray[np.float32], start: int, imatrix: NDArray[np.float32] | None
) -> NDArray[np.uint8]:
    """Return the bytes of `values`, the rows of tensor `spec` from row `start` on, in its type.

    `imatrix` holds one weight per column, for experts one row of columns per expert. Raises BadFile
    if a scale or value overflows the type, or the type needs an importance matrix.
    """
    if imatrix is not None:
        encoded = _encode_weighted(spec, values, start, imatrix.reshape(-1, spec.shape[0]))
    elif native.needs_imatrix(spec.type):
        raise BadFile(
            f"{spec.name} cannot become {spec.type.name} without an importance matrix entry",
            hint="choose another type for it: --tensor-type NAME=TYPE",
        )
    else:
        encoded = native.encode_rows(spec.type, values)
    if spec.type is not F32 and not native.is_valid(spec.type, encoded):
        raise BadFile(
            f"{spec.name}: weights near row {start} overflow {spec.type.name}",
            hint="use --type bf16",
        )
    return encoded


def _encode_weighted(
    spec: TensorSpec, values: NDArray[np.float32], start: int, imatrix: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Encode with `imatrix` (experts, columns); the rows of all experts follow one another."""
    per_expert, parts, row = spec.shape[1], [], 0
    while row < len(values):
        expert, inside = divmod(start + row, per_expert)
        stop = min(len(values), row + per_expert - inside)
        parts.append(native.encode_rows(spec.type, values[row:stop], imatrix[expert]))
        row = stop
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def as_float32(raw: NDArray[Any]) -> NDArray[np.float32]:
    """Return block data (float32, float16, or uint16 holding bfloat16) as float32, exactly."""
    if raw.dtype != np.uint16:
        return raw.astype(np.float32, copy=False)
    return native.decode_rows(BF16, np.ascontiguousarray(raw), (raw.shape[0], raw.shape[1]))


def finite_float32(raw: NDArray[Any], spec: TensorSpec, start: int) -> NDArray[np.float32]:
    """Return block data as float32 values. Raises BadFile if one is NaN or infinite."""
    values = as_float32(raw)
    if raw.dtype != np.uint16 or not is_finite_bf16(raw):
        require_finite(values, spec, start)
    return values


def is_finite_bf16(words: NDArray[np.uint16]) -> bool:
    """Return whether no bfloat16 word is NaN or infinite."""
    return _largest_magnitude(words) < _BF16_INFINITY


def _largest_magnitude(words: NDArray[np.uint16]) -> int:
    """Return the bfloat16 word of the largest magnitude: words without sign grow with it."""
    return int((words & np.uint16(0x7FFF)).max(initial=0))


def require_finite(values: NDArray[np.float32], spec: TensorSpec, start: int) -> None:
    """Raise BadFile, naming tensor and position, if a value is NaN or infinite."""
    with np.errstate(all="ignore"):
        # One pass at memory speed: a sum with a NaN or an infinity is not finite. Finite values may
        # have such a sum too: then each of them is looked at.
        if np.isfinite(np.add.reduce(values, axis=None)):
            return
        bad = ~np.isfinite(values)
    if bad.any():
        row, column = (int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
        value = "NaN" if np.isnan(values[row, column]) else "infinite"
        raise _not_finite(spec, value, start + row, column)


def require_finite_bytes(data: NDArray[np.uint8], spec: TensorSpec, start: int) -> None:
    """Raise BadFile if `data` holds a NaN or infinite value or scale.

    `data` are whole blocks of `spec`, from byte `start` on. Not checked are integers and the bounds
    of clipped layers.
    """
    if spec.name.endswith(_LIMITS):
        return
    if plain := PLAIN_TYPES.get(spec.type.name):
        words = data.view(plain.word)
        magnitude = words & words.dtype.type(plain.magnitude_mask)
        if int(magnitude.max(initial=0)) >= plain.infinity:
            index = int(np.argmax(magnitude >= plain.infinity))
            value = "NaN" if int(magnitude[index]) > plain.infinity else "infinite"
            raise _not_finite(spec, value, *divmod(start // words.itemsize + index, spec.shape[0]))
    elif not native.is_valid(spec.type, data):
        row = start // spec.type.row_bytes(spec.shape[0])
        raise BadFile(
            f"{spec.name}: a scale is NaN or infinite near row {row}: the source is damaged",
            hint=DIAGNOSE,
        )


def _not_finite(spec: TensorSpec, value: str, row: int, column: int) -> BadFile:
    return BadFile(
        f"{spec.name} is {value} at row {row}, column {column}: the source is damaged",
        hint=DIAGNOSE,
    )


# Where a block has its float16 scale, or its scale and minimum: (offset, bytes). A block in which
# they are zero decodes to zeros. Source: the structs block_q4_0 to block_iq4_xs,
# ggml/src/ggml-common.h.
_SCALES: Final[Mapping[str, tuple[int, int]]] = {
    "Q4_0": (0, 2),
    "Q4_1": (0, 4),
    "Q5_0": (0, 2),
    "Q5_1": (0, 4),
    "Q8_0": (0, 2),
    "Q2_K": (80, 4),
    "Q3_K": (108, 2),
    "Q4_K": (0, 4),
    "Q5_K": (0, 4),
    "Q6_K": (208, 2),
    "IQ4_NL": (0, 2),
    "IQ4_XS": (0, 2),
}


def count_zero_blocks(kind: GGMLType, encoded: NDArray[np.uint8]) -> int:
    """Return how many blocks of `encoded` hold only zeros; 0 for types that are not in _SCALES."""
    if kind.name not in _SCALES:
        return 0
    at, size = _SCALES[kind.name]
    fields = encoded.reshape(-1, kind.block_bytes)[:, at : at + size]
    magnitudes = np.ascontiguousarray(fields).view("<u2") & 0x7FFF  # without sign: -0 is zero
    return int(np.count_nonzero(~magnitudes.any(axis=1)))


def find_largest(raw: NDArray[Any], spec: TensorSpec, start: int) -> float:
    """Return the largest magnitude in block data. Raises BadFile if a value is NaN or infinite."""
    if raw.dtype == np.uint16:
        magnitude = _largest_magnitude(raw)
        if magnitude < _BF16_INFINITY:
            return float(as_float32(np.array([[magnitude]], np.uint16))[0, 0])
    values = as_float32(raw)
    require_finite(values, spec, start)
    return float(np.abs(values).max(initial=0))

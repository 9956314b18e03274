"""The format of SFP8 archives: GGUF files with one byte per weight that describe themselves.

general.architecture   "gemma4-sfp8": other programs refuse the name instead of misreading the file
gemma4.*               the network's own keys, unchanged; no general.file_type, since none fits
g4.sfp8.*              specification, decode table, encoder, scale rule, names of the coded tensors
tensors                codes as I8 under the original name and shape; NAME.sfp8_scale F32 [1], a
                       power of two; all other tensors unchanged
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from math import frexp
from typing import Final

from g4cli.core.errors import BadGGUF
from g4cli.core.ggml import BF16, F32, I8, round_up
from g4cli.core.gguf import iter_tensor
from g4cli.core.gguf_header import Header, TensorInfo
from g4cli.core.gguf_values import (
    SCALARS,
    Array,
    Value,
    ValueType,
    array_value,
    string_value,
    uint32_value,
)
from g4cli.core.sfp8 import (
    ARCHIVE_SUFFIX,
    CONTAINER_KEY,
    ENCODER_KEY,
    FORMAT,
    FORMAT_KEY,
    MAX_EXPONENT,
    RESERVED,
    SCALE_SUFFIX,
    TABLE_KEY,
    TENSORS_KEY,
    decode_words,
)
from g4cli.quant.recipes import Recipe

ARCHITECTURE_KEY: Final = "general.architecture"
VERSION_KEY: Final = "g4.format_version"
SPEC: Final = "google/gemma.cpp SfpStream @3ed403e"
# The value of FORMAT_KEY where SFP8 values were rounded once more, to fit Q8_0.
ROUNDED_FORMAT: Final = "SFP8 rounded, stored as Q8_0"
# File types that hold every SFP8 value exactly.
EXACT_TYPES: Final = ("f32", "bf16")


def is_sfp8(keys: Mapping[str, Value]) -> bool:
    """Return whether `keys` say that a file holds SFP8 values, exactly."""
    value = keys.get(FORMAT_KEY)
    return value is not None and value.data == FORMAT


def is_archive(header: Header) -> bool:
    """Return whether the file holds SFP8 codes, which llama.cpp cannot run."""
    return header.architecture.endswith(ARCHIVE_SUFFIX)


def sfp8_keys(recipe: Recipe, tensors: tuple[str, ...]) -> dict[str, Value]:
    """Return the keys that label a file of SFP8 values; `tensors` names those that are coded.

    The encoder "rne" rounds to nearest, half to even. The scale rule says how the scale follows
    from the largest magnitude of a tensor (`sfp8.scale_exponent`).
    """
    encoder, scale_rule = "rne", "pow2, max/scale in (0.9375, 1.875]"
    if recipe.sfp8_encoder == "gemma.cpp":
        encoder, scale_rule = "gemma.cpp", "max > 1.875 -> pow2, else 1"
    keys = {
        FORMAT_KEY: string_value(FORMAT if recipe.container != "q8_0" else ROUNDED_FORMAT),
        VERSION_KEY: uint32_value(1),
        CONTAINER_KEY: string_value("I8" if recipe.is_archive else recipe.container.upper()),
        "g4.sfp8.spec": string_value(SPEC),
        ENCODER_KEY: string_value(encoder),
        "g4.sfp8.scale_rule": string_value(scale_rule),
        TENSORS_KEY: array_value(ValueType.STRING, tensors),
    }
    if recipe.is_archive:
        table = array_value(ValueType.UINT16, decode_words())
        assert isinstance(table.data, Array)
        keys["g4.sfp8.reserved"] = uint32_value(RESERVED)
        keys[TABLE_KEY] = table
        keys["g4.sfp8.decode_sha256"] = string_value(
            hashlib.sha256(table.data.read_bytes()).hexdigest()
        )
    return keys


def coded_tensors(header: Header) -> dict[str, int]:
    """Return the scale's exponent of every coded tensor of an archive.

    Raises BadGGUF if the file's table is not SFP8's, or a coded tensor or its scale is missing or
    of a wrong type.
    """
    names, table = header.get(TENSORS_KEY, Array), header.get(TABLE_KEY, Array)
    if table.item_type is not ValueType.UINT16 or list(table.tolist()) != decode_words():
        raise BadGGUF(header.path, "is not the table of SFP8", field=TABLE_KEY)
    if names.item_type is not ValueType.STRING:
        raise BadGGUF(header.path, "is not a list of names", field=TENSORS_KEY)
    coded: dict[str, int] = {}
    for name in names.tolist():
        tensor = header.tensors.get(name)
        if tensor is None or tensor.type is not I8:
            raise BadGGUF(header.path, "is listed as SFP8 but is not there as I8", field=name)
        coded[name] = _read_exponent(header, name + SCALE_SUFFIX)
    return coded


def _read_exponent(header: Header, name: str) -> int:
    """Return k of the scale 2^k in the tensor `name`."""
    tensor = header.tensors.get(name)
    if tensor is None or tensor.type is not F32 or tensor.shape != (1,):
        raise BadGGUF(header.path, "the scale is missing or not one F32 number", field=name)
    (scale,) = SCALARS[ValueType.FLOAT32].unpack(b"".join(iter_tensor(header, tensor)))
    fraction, exponent = frexp(scale)
    if fraction != 0.5 or abs(exponent - 1) > MAX_EXPONENT:
        raise BadGGUF(header.path, f"{scale} is not a power of two that SFP8 can have", field=name)
    return exponent - 1


def decoded_view(header: Header, coded: Mapping[str, int]) -> dict[str, TensorInfo]:
    """Return the tensors that an archive stands for: coded ones as BF16, without their scales.

    Their offsets remain those of the codes.
    """
    scales = {name + SCALE_SUFFIX for name in coded}
    return {
        name: replace(tensor, type=BF16) if name in coded else tensor
        for name, tensor in header.tensors.items()
        if name not in scales
    }


def expanded_header(header: Header) -> Header:
    """Return the header that the archive's BF16 expansion would have; any other header unchanged.

    It is for estimates: offsets and sizes are those of the expansion, so no data may be read by it.
    """
    if not is_archive(header):
        return header
    tensors, offset = {}, 0
    for name, tensor in decoded_view(header, coded_tensors(header)).items():
        tensors[name] = replace(tensor, offset=offset)
        offset += round_up(tensor.nbytes, header.alignment)
    architecture = string_value(header.architecture.removesuffix(ARCHIVE_SUFFIX))
    keys = {**header.keys, ARCHITECTURE_KEY: architecture}
    return replace(header, keys=keys, tensors=tensors, file_size=header.data_offset + offset)

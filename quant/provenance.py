"""The keys of a quantized file: those of the source, changed as llama.cpp does, and g4's own.

llama.cpp (`llama_model_quantize_impl`, src/llama-quant.cpp, llama.cpp@0c1e57098) copies all keys,
moves general.quantization_version and general.file_type to the end and drops the split keys. g4's
own keys start with `g4.`. Those of the source are dropped, since they describe the source.
`quantize_file` (quant/file.py) and the coder of checkpoints (g4cli/store/recode.py) write these
keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import g4cli
from g4cli.core.ggml import Q8_0, QUANTIZATION_VERSION
from g4cli.core.gguf_values import Value, string_value, uint32_value
from g4cli.core.sfp8 import ARCHIVE_SUFFIX, CONTAINER_KEY, FORMAT_KEY, TABLE_KEY
from g4cli.quant.recipes import Recipe, file_type
from g4cli.quant.sfp8_archive import (
    ARCHITECTURE_KEY,
    EXACT_TYPES,
    ROUNDED_FORMAT,
    VERSION_KEY,
    is_sfp8,
    sfp8_keys,
)
from g4cli.quant.source import SPLIT_KEYS

SOURCE_SHA256: Final = "g4.source.sha256"
_OWN_PREFIX: Final = "g4."
_SFP8_PREFIX: Final = "g4.sfp8."
# Keys that describe codes, and are wrong where the values are stored in another type.
_ARCHIVE_ONLY: Final = (TABLE_KEY, "g4.sfp8.reserved", "g4.sfp8.decode_sha256")


def new_keys(
    source: Path,
    source_keys: Mapping[str, Value],
    recipe: Recipe,
    *,
    source_sha256: str,
    sfp8_tensors: tuple[str, ...] = (),
    imatrix_keys: Mapping[str, Value] | None = None,
) -> dict[str, Value]:
    """Return the keys of the new file, in order.

    `source` is the file or folder that the weights come from, `source_keys` are its keys, and
    `source_sha256` is the hash of its bytes (of all parts, in order). `sfp8_tensors` are the names
    of the tensors whose values are rounded to SFP8, `imatrix_keys` the keys that name the
    importance matrix.
    """
    keys = {
        name: _new_architecture(value, recipe) if name == ARCHITECTURE_KEY else value
        for name, value in source_keys.items()
        if name not in SPLIT_KEYS and not name.startswith(_OWN_PREFIX)
    }
    _put_last(keys, "general.quantization_version", uint32_value(QUANTIZATION_VERSION))
    keys.pop("general.file_type", None)
    if not recipe.is_archive:
        # SFP8 values that are stored in Q8_0 make a Q8_0 file.
        row = file_type("q8_0") if recipe.default_type is Q8_0 else recipe.row
        keys["general.file_type"] = uint32_value(row.ftype)
    for name, value in (imatrix_keys or {}).items():
        _put_last(keys, name, value)
    keys["g4.version"] = string_value(g4cli.__version__)
    keys["g4.recipe"] = string_value(recipe.as_options())
    keys["g4.source.file"] = string_value(source.name)  # without its folder, which may be private
    keys[SOURCE_SHA256] = string_value(source_sha256)
    if recipe.is_sfp8:
        keys |= sfp8_keys(recipe, sfp8_tensors)
    elif is_sfp8(source_keys):
        keys |= _relabel_sfp8(source_keys, recipe)
    return keys


def _relabel_sfp8(source: Mapping[str, Value], recipe: Recipe) -> dict[str, Value]:
    """Return the keys that label the values of an SFP8 file as `recipe` stores them.

    BF16 and F32 hold the values exactly, Q8_0 rounds them; in any other type they are SFP8 no more.
    """
    if recipe.type in EXACT_TYPES:
        kept = {
            name: value
            for name, value in source.items()
            if name.startswith(_SFP8_PREFIX) and name not in _ARCHIVE_ONLY
        }
        label = {n: source[n] for n in (FORMAT_KEY, VERSION_KEY) if n in source}
        return {**label, CONTAINER_KEY: string_value(recipe.type.upper()), **kept}
    if recipe.type == "q8_0":
        return {
            FORMAT_KEY: string_value(ROUNDED_FORMAT),
            CONTAINER_KEY: string_value("Q8_0"),
        }
    return {}


def _new_architecture(value: Value, recipe: Recipe) -> Value:
    architecture = str(value.data).removesuffix(ARCHIVE_SUFFIX)
    return string_value(architecture + ARCHIVE_SUFFIX if recipe.is_archive else architecture)


def _put_last(keys: dict[str, Value], name: str, value: Value) -> None:
    keys.pop(name, None)
    keys[name] = value

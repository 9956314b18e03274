"""The keys of a quantized file: those of the source, changed as llama.cpp does, and g4's own.

llama.cpp (`llama_model_quantize_impl`, src/llama-quant.cpp, llama.cpp@0c1e57098) copies all keys,
moves general.quantization_version and general.file_type to the end and drops the split keys. g4's
own keys start with `g4.`. Those of the source are dropped, since they describe the source, except
`g4.origin.*`: where the weights came from stays true.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from g4cli.core.gguf_values import Value, string_value, uint32_value
from g4cli.core.sfp8 import CONTAINER_KEY, FORMAT_KEY, SUFFIX, TABLE_KEY
from g4cli.quant.recipes import Recipe, file_type
from g4cli.quant.sfp8_archive import ARCHITECTURE_KEY, VERSION_KEY, is_sfp8, sfp8_keys
from g4cli.quant.source import SPLIT_KEYS, Source

QUANTIZATION_VERSION: Final = 2  # GGML_QNT_VERSION, ggml/include/ggml.h
OURS: Final = "g4."
KEPT: Final = "g4.origin."
SOURCE_SHA256: Final = "g4.source.sha256"
_SFP8: Final = "g4.sfp8."
# What only an archive says.
_ARCHIVE_ONLY: Final = (TABLE_KEY, "g4.sfp8.reserved", "g4.sfp8.decode_sha256")


def new_keys(
    source: Source,
    recipe: Recipe,
    *,
    version: str,
    source_sha256: str,
    sfp8_tensors: tuple[str, ...] = (),
    imatrix_keys: Mapping[str, Value] | None = None,
) -> dict[str, Value]:
    """Return the keys of the new file, in order."""
    keys = {
        name: _new_architecture(value, recipe) if name == ARCHITECTURE_KEY else value
        for name, value in source.keys.items()
        if name not in SPLIT_KEYS and (not name.startswith(OURS) or name.startswith(KEPT))
    }
    _put_last(keys, "general.quantization_version", uint32_value(QUANTIZATION_VERSION))
    keys.pop("general.file_type", None)
    if not recipe.is_archive:
        keys["general.file_type"] = uint32_value(_file_type(recipe))
    for name, value in (imatrix_keys or {}).items():
        _put_last(keys, name, value)
    keys["g4.version"] = string_value(version)
    keys["g4.recipe"] = string_value(recipe.as_options())
    keys["g4.source.file"] = string_value(source.path.name)
    keys[SOURCE_SHA256] = string_value(source_sha256)
    if recipe.is_sfp8:
        keys |= sfp8_keys(recipe, sfp8_tensors)
    elif is_sfp8(source.keys):
        keys |= _label_kept(source.keys, recipe)
    return keys


def _label_kept(source: Mapping[str, Value], recipe: Recipe) -> dict[str, Value]:
    """Return the keys that label SFP8 values stored in another type.

    BF16 and F32 keep the values, Q8_0 rounds them; other types are not labeled.
    """
    if recipe.type in ("bf16", "f32"):
        kept = {n: v for n, v in source.items() if n.startswith(_SFP8) and n not in _ARCHIVE_ONLY}
        label = {n: source[n] for n in (FORMAT_KEY, VERSION_KEY) if n in source}
        return {**label, CONTAINER_KEY: string_value(recipe.type.upper()), **kept}
    if recipe.type == "q8_0":
        return {
            FORMAT_KEY: string_value("SFP8 rounded, stored as Q8_0"),
            CONTAINER_KEY: string_value("Q8_0"),
        }
    return {}


def _new_architecture(value: Value, recipe: Recipe) -> Value:
    plain = str(value.data).removesuffix(SUFFIX)
    return string_value(plain + SUFFIX if recipe.is_archive else plain)


def _file_type(recipe: Recipe) -> int:
    return (
        file_type("q8_0").ftype
        if recipe.is_sfp8 and recipe.container == "q8_0"
        else recipe.row.ftype
    )


def _put_last(keys: dict[str, Value], name: str, value: Value) -> None:
    keys.pop(name, None)
    keys[name] = value

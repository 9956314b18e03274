"""The keys of a new file: the source's, llama.cpp's own changes, then what g4 records about the step.

llama.cpp's part (`llama_model_quantize_impl`, src/llama-quant.cpp, llama.cpp@0c1e57098): all keys are copied,
general.quantization_version and general.file_type move to the end, split keys go. g4's own keys start with
`g4.`; those of the source are dropped, since they describe another file, except where it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from g4cli.core.gguf_values import Value, ValueType, array, string, u32
from quant.recipes import Recipe
from quant.source import SPLIT_KEYS, Source

QUANTIZATION_VERSION: Final = 2  # GGML_QNT_VERSION, ggml/include/ggml.h
OURS: Final = "g4."
# Keys about the origin of the weights stay true through every further step.
KEPT: Final = "g4.origin."
FORMAT_KEY: Final = "g4.format"
CONTAINER_KEY: Final = "g4.container"
TENSORS_KEY: Final = "g4.sfp8.tensors"
SFP8_SPEC: Final = "google/gemma.cpp SfpStream @3ed403e"


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
        name: value
        for name, value in source.keys.items()
        if name not in SPLIT_KEYS and (not name.startswith(OURS) or name.startswith(KEPT))
    }
    _put(keys, "general.quantization_version", u32(QUANTIZATION_VERSION))
    _put(keys, "general.file_type", u32(_file_type(recipe)))
    for name, value in (imatrix_keys or {}).items():
        _put(keys, name, value)
    keys["g4.version"] = string(version)
    keys["g4.recipe"] = string(recipe.text())
    keys["g4.source.file"] = string(source.path.name)
    keys["g4.source.sha256"] = string(source_sha256)
    if recipe.is_sfp8:
        keys |= _sfp8_keys(recipe, sfp8_tensors)
    return keys


def is_sfp8(keys: Mapping[str, Value]) -> bool:
    """Return whether `keys` say that a file holds SFP8 values."""
    value = keys.get(FORMAT_KEY)
    return value is not None and value.data == "SFP8"


def _file_type(recipe: Recipe) -> int:
    return 7 if recipe.is_sfp8 and recipe.carrier == "q8_0" else recipe.row.ftype


def _sfp8_keys(recipe: Recipe, tensors: tuple[str, ...]) -> dict[str, Value]:
    exact = recipe.carrier == "bf16"
    return {
        FORMAT_KEY: string("SFP8" if exact else "SFP8 rounded, stored as Q8_0"),
        "g4.format_version": u32(1),
        CONTAINER_KEY: string(recipe.carrier.upper()),
        "g4.sfp8.spec": string(SFP8_SPEC),
        "g4.sfp8.encoder": string("rne" if recipe.sfp8_encoder == "nearest" else "gemma.cpp"),
        "g4.sfp8.scale_rule": string(
            "pow2: max/scale in (0.9375, 1.875]"
            if recipe.sfp8_encoder == "nearest"
            else "pow2 if max > 1.875, else 1"
        ),
        TENSORS_KEY: array(ValueType.STRING, tensors),
    }


def _put(keys: dict[str, Value], name: str, value: Value) -> None:
    keys.pop(name, None)
    keys[name] = value

"""The options of `g4 quantize`, checked and turned into a Recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

from g4cli.core.errors import UsageError
from g4cli.quant.mixtures import tensor_type
from g4cli.quant.recipes import PLE_PATTERN, Container, Recipe, SFP8Encoder, file_type


def parse_override(text: str) -> tuple[str, str]:
    """Return (pattern, tensor type) from 'ffn_down=q6_k'; the pattern may hold "=" itself.

    Raises UsageError.
    """
    pattern, sign, type_name = text.rpartition("=")
    if not sign or not pattern or not type_name:
        raise UsageError(f"not PATTERN=TYPE: {text!r}", hint="--tensor-type 'ffn_down=q6_k'")
    return pattern, tensor_type(type_name).name


def build_recipe(
    type_name: str,
    *,
    pure: bool = False,
    tensor_types: Sequence[str] = (),
    keep_ple: str | None = None,
    has_imatrix: bool = False,
    container: str | None = None,
    sfp8_encoder: str | None = None,
) -> Recipe:
    """Return the recipe for the options of `g4 quantize`. Raises UsageError on an unknown name.

    `tensor_types` are texts PATTERN=TYPE (`parse_override`). `keep_ple` is the type of the
    per-layer embedding table; it wins over `tensor_types`. `container` and `sfp8_encoder` None: the
    default.
    """
    row = file_type(type_name)
    for value, known, option in (
        (container, get_args(Container), "--container"),
        (sfp8_encoder, get_args(SFP8Encoder), "--encoder"),
    ):
        if value is None:
            continue
        if row.name != "sfp8":
            raise UsageError(f"{option} can only be used with --type sfp8", hint="--type sfp8")
        if value not in known:
            raise UsageError(f"unknown {option[2:]} {value!r}", hint=f"{option} {'|'.join(known)}")
    overrides = [parse_override(text) for text in tensor_types]
    if keep_ple:
        overrides.insert(0, (PLE_PATTERN, tensor_type(keep_ple).name))
    return Recipe(
        row.name,
        pure=pure,
        overrides=tuple(overrides),
        has_imatrix=has_imatrix,
        container=cast("Container", container or "archive"),
        sfp8_encoder=cast("SFP8Encoder", sfp8_encoder or "nearest"),
    )

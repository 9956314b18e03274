"""Checks of the keys: architecture, constants of Gemma 4, the shape of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from g4cli.core.file_kind import TEXT, kind_text, text_key
from g4cli.core.gguf_values import Value, find_data
from g4cli.core.registry import MODELS
from g4cli.core.shape import Shape
from g4cli.doctor.checks.advice import RECONVERT, REPAIR
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.reference import CONSTANT_KEYS
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

# How much a value may differ, as a share of it: keys are stored as float32.
_F32_ROUNDING: Final = 1e-5


def check_architecture(facts: FileFacts) -> Outcome:
    """Name the network, and fail for Gemma 4 under another name or with an unreadable shape."""
    header = facts.header
    if header is None:
        return skipped("the header cannot be read")
    if facts.shape is not None:
        shape = facts.shape
        sliding = sum(shape.is_swa)
        name = f"{facts.model_name}: " if facts.model_name else ""
        return ok(
            f"{name}gemma4, {shape.n_layer} layers ({sliding} sliding-window, "
            f"{shape.n_layer - sliding} global), hidden size {shape.n_embd}"
        )
    name = text_key(header, "general.architecture")
    if facts.kind == "sfp8-archive":
        return ok(
            f"{name}: an SFP8 archive, one byte per weight; g4 chat expands it before it runs"
        )
    if facts.kind not in ("text-model", "vocabulary"):
        return ok(kind_text(header))
    if name == TEXT:
        fault = facts.shape_fault
        assert fault is not None
        return fail(f"{fault.what} ({fault.field})", RECONVERT, cause="conversion-defect")
    return fail(
        f"the architecture is {name!r}, but keys and tensors are Gemma 4's: llama.cpp takes "
        "it for another network, or refuses it",
        RECONVERT,
        cause="conversion-defect",
    )


def check_values(facts: FileFacts) -> Outcome:
    """Compare the keys that have one value in every Gemma 4 file."""
    if facts.shape is None:
        return skipped("no Gemma 4 header")
    differences = [_describe_difference(facts.keys, *row) for row in CONSTANT_KEYS]
    wrong = [text for text in differences if text] + _list_rope_scaling(facts.keys)
    if wrong:
        return fail("; ".join(wrong), REPAIR, cause="conversion-defect")
    return ok("norm epsilon, RoPE bases and softcap are those of Gemma 4")


def _describe_difference(keys: Mapping[str, Value], key: str, value: float, why: str) -> str:
    """Return what is wrong with a key, or ''."""
    stored = find_data(keys, key, object)
    if stored is None:
        # llama.cpp's defaults are right except for this one (src/models/gemma4.cpp, 0c1e57098).
        return f"{key} is missing ({why})" if key == "gemma4.rope.freq_base" else ""
    # Written so that NaN, which no comparison holds for, differs.
    if not (isinstance(stored, int | float) and abs(stored - value) <= _F32_ROUNDING * value):
        return f"{key} is {stored}, expected {value:g} ({why})"
    return ""


def _list_rope_scaling(keys: Mapping[str, Value]) -> list[str]:
    """Return what RoPE scaling keys say: no Gemma 4 has any, and llama.cpp would apply them."""
    names = [f"gemma4.rope.scaling.{name}" for name in ("type", "factor")]
    return [
        f"{name} is {data} (Gemma 4 has no RoPE scaling)"
        for name in names
        if (data := find_data(keys, name, object)) not in (None, "none", 1.0, 0.0)
    ]


def check_shape(facts: FileFacts) -> Outcome:
    """Compare every number of the shape with that of the published model."""
    shape = facts.shape
    if shape is None:
        return skipped("no Gemma 4 header")
    bad = _list_impossible_numbers(shape, facts.keys)
    if facts.model_name:
        known = next(m.shape for m in MODELS if m.name == facts.model_name)
        bad += [
            f"{f.name} is {_shorten_value(getattr(shape, f.name))}, expected "
            f"{_shorten_value(getattr(known, f.name))}"
            for f in fields(Shape)
            # K = V and the vocabulary size follow from the tensors; other checks judge them.
            if f.name not in ("k_eq_v", "n_vocab", "n_ctx_train")
            and getattr(shape, f.name) != getattr(known, f.name)
        ]
        # A changed context length is common in fine-tuned models and breaks nothing.
        if not bad and shape.n_ctx_train != known.n_ctx_train:
            return warn(
                f"the context length is {shape.n_ctx_train:,}, {facts.model_name} has "
                f"{known.n_ctx_train:,}"
            )
    if bad:
        return fail("; ".join(bad[:3]), RECONVERT, cause="conversion-defect", detail=tuple(bad))
    return ok(
        f"every number is that of {facts.model_name}"
        if facts.model_name
        else "the numbers are consistent"
    )


def _list_impossible_numbers(shape: Shape, keys: Mapping[str, Value]) -> list[str]:
    """Return the statements of the keys that hold for no Gemma 4 of any size.

    Numbers that no network can have are refused when the shape is read.
    """
    bad = []
    if shape.is_swa[-1]:
        bad.append("the last layer has a sliding window; in Gemma 4 it is global")
    if shape.n_shared_kv == shape.n_layer:
        bad.append(f"{shape.n_shared_kv} of {shape.n_layer} layers share a KV cache")
    for suffix, width in (("", shape.head_dim), ("_swa", shape.head_dim_swa)):
        for key in (f"attention.value_length{suffix}", f"rope.dimension_count{suffix}"):
            number = find_data(keys, f"gemma4.{key}", object)
            if number not in (None, width):
                bad.append(f"gemma4.{key} is {number}, the head dimension is {width}")
    # Published models have 512 or 1024. The limit is a choice.
    if shape.n_swa > 4096:
        bad.append(f"the sliding window is {shape.n_swa} tokens")
    return bad


def _shorten_value(value: Any) -> str:
    """Return a number of the shape for a message; if each of 30 layers has one: "4/8 x30"."""
    if isinstance(value, tuple):
        different = list(dict.fromkeys(value))
        return "/".join(map(str, different[:3])) + f" x{len(value)}"
    return str(value)


CHECKS: Final = (
    Check("keys.architecture", check_architecture),
    Check("keys.values", check_values),
    Check("keys.shape", check_shape),
)

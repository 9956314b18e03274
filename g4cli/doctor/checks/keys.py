"""Do the keys say what a Gemma 4 file of this size says?"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from g4cli.core.file_kind import TEXT, kind_text, text_key
from g4cli.core.registry import MODELS
from g4cli.core.shape import Shape
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

if TYPE_CHECKING:
    from g4cli.core.gguf_header import Header
    from g4cli.doctor.facts.file_facts import FileFacts

RECONVERT: Final = "convert it again with g4 convert, or get another file: g4 pull MODEL"
FIX: Final = "g4 doctor FILE --fix OUT"


def claimed(shape: Shape | None) -> str:
    """Return the model that a shape comes nearest to (layers and width agree), or ''."""
    for model in MODELS:
        if shape is not None and (model.shape.n_layer, model.shape.n_embd) == (
            shape.n_layer,
            shape.n_embd,
        ):
            return model.name
    return ""


def check_architecture(facts: FileFacts) -> Outcome:
    """Say whether g4 can judge this network at all."""
    header = facts.header
    if header is None:
        return skipped("the header cannot be read")
    if facts.shape is not None:
        shape = facts.shape
        sliding = sum(shape.is_swa)
        name = f"{facts.model_name}: " if facts.model_name else ""
        return ok(
            f"{name}gemma4, {shape.n_layer} layers ({sliding} sliding, {shape.n_layer - sliding} "
            f"global), width {shape.n_embd}"
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
        f"the architecture is {name!r}, but keys and tensors are Gemma 4's: engines take it for "
        "another network, or refuse it",
        RECONVERT,
        cause="conversion-defect",
    )


# key, the value of every published file, what happens otherwise. llama.cpp takes other values in silence.
VALUES: Final = (
    ("gemma4.attention.layer_norm_rms_epsilon", 1e-6, "every norm is off"),
    ("gemma4.rope.freq_base", 1e6, "positions in global layers are wrong"),
    ("gemma4.rope.freq_base_swa", 1e4, "positions in sliding layers are wrong"),
    ("gemma4.final_logit_softcapping", 30.0, "the logits have another range"),
)


def check_values(facts: FileFacts) -> Outcome:
    """Compare the constants that all Gemma 4 networks share."""
    header = facts.header
    if header is None or facts.shape is None:
        return skipped("no Gemma 4 header")
    wrong = [text for key, value, why in VALUES if (text := _differs(header, key, value, why))]
    wrong += _scaled(header)
    if wrong:
        return fail("; ".join(wrong), FIX, cause="conversion-defect")
    return ok("norm epsilon, RoPE bases and softcap are those of Gemma 4")


def _differs(header: Header, key: str, value: float, why: str) -> str:
    found = header.keys.get(key)
    if found is None:
        # llama.cpp's own defaults are right but for this one (src/models/gemma4.cpp, 0c1e57098).
        return f"{key} is missing ({why})" if key == "gemma4.rope.freq_base" else ""
    if not isinstance(found.data, int | float) or abs(found.data - value) > 1e-5 * value:
        return f"{key} is {found.data}, expected {value:g} ({why})"
    return ""


def _scaled(header: Header) -> list[str]:
    """Return RoPE scaling keys: no Gemma 4 has any, and llama.cpp would apply them."""
    found = []
    for name in ("type", "factor"):
        value = header.keys.get(f"gemma4.rope.scaling.{name}")
        if value is not None and value.data not in ("none", 1.0, 0.0):
            found.append(
                f"gemma4.rope.scaling.{name} is {value.data} (no Gemma 4 scales its positions)"
            )
    return found


def check_shape(facts: FileFacts) -> Outcome:
    """Compare every number of the shape with the table of the size that the file claims to be."""
    shape = facts.shape
    if shape is None or facts.header is None:
        return skipped("no Gemma 4 header")
    bad = list(_inconsistent(shape, facts.header))
    if facts.model_name:
        known = next(m.shape for m in MODELS if m.name == facts.model_name)
        bad += [
            f"{f.name} is {_short(getattr(shape, f.name))}, expected {_short(getattr(known, f.name))}"
            for f in fields(Shape)
            # The tensors decide about K = V and the vocabulary; those have checks of their own.
            if f.name not in ("k_eq_v", "n_vocab", "n_ctx_train")
            and getattr(shape, f.name) != getattr(known, f.name)
        ]
        if not bad and shape.n_ctx_train != known.n_ctx_train:
            return warn(
                f"the context length is {shape.n_ctx_train:,}, {facts.model_name} has "
                f"{known.n_ctx_train:,}",
                FIX,
            )
    if bad:
        return fail("; ".join(bad[:3]), RECONVERT, cause="conversion-defect", detail=tuple(bad))
    return ok(
        f"every number is that of {facts.model_name}" if facts.model_name else "the numbers agree"
    )


def _inconsistent(shape: Shape, header: Header) -> list[str]:
    """Return what no Gemma 4 can be, whatever its size."""
    bad = []
    if shape.is_swa and shape.is_swa[-1]:
        bad.append("the last layer slides; Gemma 4 ends with a global layer")
    if not 0 <= shape.n_shared_kv < shape.n_layer:
        bad.append(f"{shape.n_shared_kv} layers share a KV cache, of {shape.n_layer}")
    for suffix, width in (("", shape.head_dim), ("_swa", shape.head_dim_swa)):
        for key in (f"attention.value_length{suffix}", f"rope.dimension_count{suffix}"):
            value = header.keys.get(f"gemma4.{key}")
            if value is not None and value.data != width:
                bad.append(f"gemma4.{key} is {value.data}, the heads are {width} wide")
    if not 0 < shape.n_swa <= 4096:
        bad.append(f"a sliding window of {shape.n_swa}")
    return bad


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        kinds = list(dict.fromkeys(value))
        return "/".join(str(k) for k in kinds[:3]) + f" x{len(value)}"
    return str(value)


CHECKS: Final = (
    Check("keys.architecture", check_architecture),
    Check("keys.values", check_values),
    Check("keys.shape", check_shape),
)

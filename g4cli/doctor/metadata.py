"""Do the keys say what a Gemma 4 file says?"""

from __future__ import annotations

from typing import Final

from g4cli.core.gguf import Header
from g4cli.doctor.facts import FileFacts
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped

RECONVERT: Final = "convert it again with g4 convert, or get another file: g4 pull MODEL"


def check_architecture(facts: FileFacts) -> Outcome:
    """Say whether g4 can judge this network at all."""
    if facts.header is None:
        return skipped("the header cannot be read")
    if facts.shape_fault is not None:
        fault = facts.shape_fault
        return fail(f"{fault.what} ({fault.field})", RECONVERT, cause="conversion-defect")
    assert facts.shape is not None
    shape = facts.shape
    sliding = sum(shape.is_swa)
    return ok(
        f"gemma4, {shape.n_layer} layers ({sliding} sliding, {shape.n_layer - sliding} global), "
        f"width {shape.n_embd}"
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
    if wrong:
        return fail("; ".join(wrong), "g4 doctor FILE --fix OUT", cause="conversion-defect")
    return ok("norm epsilon, RoPE bases and softcap are those of Gemma 4")


def _differs(header: Header, key: str, value: float, why: str) -> str:
    found = header.keys.get(key)
    if found is None:
        # llama.cpp's own defaults are right but for this one (src/models/gemma4.cpp, 0c1e57098).
        return f"{key} is missing ({why})" if key == "gemma4.rope.freq_base" else ""
    if not isinstance(found.data, int | float) or abs(found.data - value) > 1e-5 * value:
        return f"{key} is {found.data}, expected {value:g} ({why})"
    return ""


CHECKS: Final = (Check("keys.architecture", check_architecture), Check("keys.values", check_values))

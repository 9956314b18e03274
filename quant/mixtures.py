"""The tensor types of mixtures such as Q4_K_M: llama.cpp's rules as ordered tables.

Source: src/llama-quant.cpp, ggml-org/llama.cpp@0c1e57098: `llama_tensor_get_type_impl`,
`tensor_allows_quantization`, `tensor_type_fallback`, `llama_ftype_get_default_type`. The tables
hold the rules for the file types below that can apply to Gemma 4, also with experts pruned to 8, or
to Gemma 3n, since files of any Gemma can be quantized. The first row that fits wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from g4cli.core.errors import UsageError
from g4cli.core.ggml import BY_NAME, GGMLType

# The groups of tensors that a rule names; "" are all other tensors.
Category: TypeAlias = Literal[
    "output", "token_embd", "attn_k", "attn_v", "attn_output", "ffn_down", ""
]


@dataclass(frozen=True, slots=True)
class FileType:
    """A type that a whole file can have.

    `ftype` is its general.file_type, `default` the type of most of its tensors. SFP8 has the
    ftype of BF16, which holds its values; `Recipe.default_type` says what its containers have.
    """

    name: str
    ftype: int
    default: str


# The closer to the original weights, the earlier.
FILE_TYPES: Final = (
    FileType("f32", 0, "F32"),
    FileType("f16", 1, "F16"),
    FileType("bf16", 32, "BF16"),
    FileType("sfp8", 32, "SFP8"),
    FileType("q8_0", 7, "Q8_0"),
    FileType("q6_k", 18, "Q6_K"),
    FileType("q5_k_m", 17, "Q5_K"),
    FileType("q5_k_s", 16, "Q5_K"),
    FileType("q5_1", 9, "Q5_1"),
    FileType("q5_0", 8, "Q5_0"),
    FileType("q4_k_m", 15, "Q4_K"),
    FileType("q4_k_s", 14, "Q4_K"),
    FileType("q4_1", 3, "Q4_1"),
    FileType("q4_0", 2, "Q4_0"),
    FileType("iq4_nl", 25, "IQ4_NL"),
    FileType("iq4_xs", 30, "IQ4_XS"),
    FileType("mxfp4", 38, "MXFP4"),
    FileType("q3_k_l", 13, "Q3_K"),
    FileType("q3_k_m", 12, "Q3_K"),
    FileType("q3_k_s", 11, "Q3_K"),
    FileType("q2_k", 10, "Q2_K"),
)

# Words that people type for the types above, as llama-quantize takes them.
ALIASES: Final = {"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m", "mxfp4_moe": "mxfp4"}

CATEGORIES: Final[tuple[tuple[str, Category], ...]] = (
    # part of the name, category (tensor_get_category); `category_of` knows two more, by whole names
    ("attn_v.weight", "attn_v"),
    ("attn_k.weight", "attn_k"),
    ("attn_output.weight", "attn_output"),
    ("ffn_down", "ffn_down"),
)

NEVER_QUANTIZED: Final = (
    # part of the name, why the tensor is left as it is (tensor_allows_quantization)
    ("_norm.weight", "a norm"),
    ("ffn_gate_inp.weight", "the router"),
    ("altup", "very small"),  # Gemma 3n
    ("laurel", "very small"),  # Gemma 3n
    ("per_layer_model_proj", "small and sensitive to rounding"),
    (".position_embd", "a position table"),
    (".patch_embd", "the patch embedding"),
)

FALLBACKS: Final = {
    # type whose block does not divide the row: type to take instead (then F16)
    "IQ1_S": "IQ4_NL",
    "IQ1_M": "IQ4_NL",
    "IQ2_XXS": "IQ4_NL",
    "IQ2_XS": "IQ4_NL",
    "IQ2_S": "IQ4_NL",
    "IQ3_XXS": "IQ4_NL",
    "IQ3_S": "IQ4_NL",
    "IQ4_XS": "IQ4_NL",
    "Q2_0": "Q4_0",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "TQ1_0": "Q4_0",
    "TQ2_0": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}

# Types that are unusable without an importance matrix (tensor_requires_imatrix).
NEEDS_IMATRIX: Final = ("IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_M", "IQ1_S")

# Types that ggml_quantize_chunk does not write: for activations, or plain integers.
NOT_ENCODED: Final = ("Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64")


def tensor_type(name: str) -> GGMLType:
    """Return the type called `name`. Raises UsageError if weights cannot be written in it."""
    kind = BY_NAME.get(name.upper())
    if kind is None or kind.name in NOT_ENCODED:
        known = " ".join(n.lower() for n in BY_NAME if n not in NOT_ENCODED)
        what = "unknown tensor type" if kind is None else "weights cannot be written as"
        raise UsageError(f"{what} {name!r}", hint=f"one of: {known}")
    return kind


@dataclass(frozen=True, slots=True)
class TensorPosition:
    """What rules depend on: the tensor's position and facts about the network.

    `i` is its number (from 0) among the tensors of its category or, for experts, its layer; `n` is
    the number of layers or, for attn_v, of the tensors of that category: llama.cpp counts so.
    `n_gqa` query heads share a KV head, 0 if that is unknown. `is_expert`: a tensor of all experts.
    """

    i: int
    n: int
    n_gqa: int
    n_expert: int
    has_imatrix: bool
    is_expert: bool


Condition: TypeAlias = Callable[[TensorPosition], bool]


class Rule(NamedTuple):
    """A rule: tensors of `category` in files of `file_types` that meet `condition` get `type_name`.

    `file_types` are names with spaces between them, or "*" for all; category "" means all. Where
    `type_name` is "", the file's default type stays. `reason` is the condition in words.
    """

    file_types: str
    category: Category
    condition: Condition
    type_name: str
    reason: str


def _always_true(_: TensorPosition) -> bool:
    return True


def _more_bits(p: TensorPosition) -> bool:
    """Return whether the layer is in the first or last eighth, or a third one between them."""
    return p.i < p.n // 8 or p.i >= 7 * p.n // 8 or (p.i - p.n // 8) % 3 == 2


def _first_eighth_imatrix(p: TensorPosition) -> bool:
    return p.i < p.n // 8 and p.has_imatrix


def _wide_gqa(p: TensorPosition) -> bool:
    return p.n_gqa >= 4


def _8_experts(p: TensorPosition) -> bool:
    return p.n_expert == 8


MIXTURES: Final[tuple[Rule, ...]] = (
    Rule("mxfp4", "", lambda p: p.is_expert, "MXFP4", "expert"),
    Rule("mxfp4", "", _always_true, "Q8_0", "not an expert"),
    Rule("*", "attn_v", _8_experts, "Q8_0", "8 experts"),
    Rule("*", "attn_k", _8_experts, "Q8_0", "8 experts"),
    Rule("q2_k", "attn_v", _wide_gqa, "Q4_K", "4 or more queries share a value"),
    Rule("q2_k", "attn_v", _always_true, "Q3_K", "values"),
    Rule("q3_k_m", "attn_v", lambda p: p.i < 2, "Q5_K", "first two values"),
    Rule("q3_k_m", "attn_v", _always_true, "Q4_K", "values"),
    Rule("q3_k_l", "attn_v", _always_true, "Q5_K", "values"),
    Rule("iq4_nl iq4_xs", "attn_v", _wide_gqa, "Q5_K", "4 or more queries share a value"),
    Rule("q4_k_m q5_k_m", "attn_v", _more_bits, "Q6_K", "a layer with more bits"),
    Rule("q4_k_s", "attn_v", lambda p: p.i < 4, "Q5_K", "first four values"),
    Rule("q2_k", "ffn_down", _always_true, "Q3_K", "down projection"),
    Rule("q3_k_m", "ffn_down", lambda p: p.i < p.n // 16, "Q5_K", "first sixteenth of the layers"),
    Rule("q3_k_m", "ffn_down", _always_true, "Q4_K", "down projection"),
    Rule("q3_k_l", "ffn_down", _always_true, "Q5_K", "down projection"),
    Rule("q4_k_m q5_k_m", "ffn_down", _more_bits, "Q6_K", "a layer with more bits"),
    Rule(
        "iq4_nl iq4_xs",
        "ffn_down",
        lambda p: p.i < p.n // 8 and not p.has_imatrix,
        "Q5_K",
        "first eighth of the layers, no imatrix",
    ),
    Rule("q4_k_s", "ffn_down", lambda p: p.i < p.n // 8, "Q5_K", "first eighth of the layers"),
    Rule("q4_0", "ffn_down", _first_eighth_imatrix, "Q4_1", "first eighth of the layers, imatrix"),
    Rule("q5_0", "ffn_down", _first_eighth_imatrix, "Q5_1", "first eighth of the layers, imatrix"),
    Rule(
        "q2_k q3_k_s q3_k_m iq4_nl iq4_xs q4_k_s q4_k_m",
        "attn_output",
        _8_experts,
        "Q5_K",
        "8 experts",
    ),
    Rule("*", "attn_output", _8_experts, "", "8 experts"),
    Rule("q2_k", "attn_output", _always_true, "Q3_K", "attention output"),
    Rule("q3_k_m", "attn_output", _always_true, "Q4_K", "attention output"),
    Rule("q3_k_l", "attn_output", _always_true, "Q5_K", "attention output"),
)


def category_of(name: str) -> Category:
    """Return the group of tensors that `name` belongs to in the rules."""
    if name == "output.weight":
        return "output"
    if name in ("token_embd.weight", "per_layer_token_embd.weight"):
        return "token_embd"
    return next((category for part, category in CATEGORIES if part in name), "")


def mixture_type(
    file_type: str, category: Category, position: TensorPosition
) -> tuple[str, str] | None:
    """Return (type name, reason) of the first rule that fits, None where the default type stays."""
    for rule in MIXTURES:
        if (
            (rule.file_types == "*" or file_type in rule.file_types.split())
            and rule.category in ("", category)
            and rule.condition(position)
        ):
            return (rule.type_name, rule.reason) if rule.type_name else None
    return None

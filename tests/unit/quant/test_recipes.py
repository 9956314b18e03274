"""Recipes of the real networks: goldens, which are llama.cpp's own answers.

`tests/integration/quant/test_recipes.py` asks llama.cpp again.
"""

from __future__ import annotations

import re

import pytest

from g4cli.core.errors import BadFile, UsageError
from g4cli.core.ggml import BF16, F32, I8, Q8_0
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.inventory import text_tensors
from g4cli.core.shape import Shape
from g4cli.quant.options import build_recipe
from g4cli.quant.recipes import (
    TYPES,
    Choice,
    Recipe,
    choose_tensors,
    choose_types,
    converter_type,
    kept_reason,
)
from tests.support.builders.shapes import ALL
from tests.support.paths import TESTS

GOLDEN = TESTS / "golden" / "recipes"
LLAMA_TYPES = [t for t in TYPES if t != "sfp8"]


def summary(choices: tuple[Choice, ...], default: str) -> str:
    """One recipe as text: the default, then the tensors that differ, layers as ranges."""
    found: dict[tuple[str, str], list[int]] = {}
    for choice in choices:
        if kept_reason(choice.name, choice.shape) or choice.type.name == default:
            continue
        match = re.match(r"blk\.(\d+)\.(.*)", choice.name)
        name = f"blk.*.{match[2]}" if match else choice.name
        found.setdefault((name, choice.type.name), []).append(int(match[1]) if match else -1)
    lines = []
    for (name, kind), layers in sorted(found.items()):
        where = " " + ",".join(map(str, sorted(layers))) if layers != [-1] else ""
        lines.append(f"  {name} {kind}{where}")
    return "\n".join([f"  {default}", *lines])


def recipes_text(shape: Shape) -> str:
    """All recipes of one network."""
    parts = []
    for name in LLAMA_TYPES:
        recipe = Recipe(name)
        choices = choose_tensors(text_tensors(shape), recipe)
        parts.append(f"[{name}]\n{summary(choices, recipe.default_type.name)}\n")
    return "".join(parts)


@pytest.mark.slow
@pytest.mark.parametrize("model", ALL)
def test_golden(model: str) -> None:
    assert recipes_text(ALL[model]) == (GOLDEN / f"{model}.txt").read_text()


def test_googles_q4_0_files_have_the_size_of_the_default_recipe() -> None:
    """Google's QAT files are the default recipe and about 16 MB of vocabulary, without K and V that
    layers with a shared cache never read (18.9 million weights in E2B)."""
    published = {
        "e2b": 3_349_516_256,
        "e4b": 5_154_941_280,
        "12b": 6_975_879_296,
        "26b": 14_439_363_584,
        "31b": 17_651_001_568,
    }
    for name, nbytes in published.items():
        shape = ALL[name]
        unread = re.compile(r"blk\.(\d+)\.attn_[kv](_norm)?\.weight")
        tensors = [
            t
            for t in text_tensors(shape)
            if not (
                (m := unread.fullmatch(t.name)) and int(m[1]) >= shape.n_layer - shape.n_shared_kv
            )
        ]
        weights = sum(spec.nbytes for spec in choose_types(tensors, Recipe("q4_0")))
        assert 15.5e6 < nbytes - weights < 16.5e6, name


def test_order_is_llama_cpps() -> None:
    names = [
        "blk.10.b",
        "blk.2.a",
        "token_embd.weight",
        "blk.2.B",
        "output_norm.weight",
        "blk.10.a",
    ]
    specs = choose_types([TensorSpec(n, F32, (4,)) for n in names], Recipe("q8_0"))
    assert [s.name for s in specs] == [
        "output_norm.weight",
        "token_embd.weight",
        "blk.2.B",
        "blk.2.a",
        "blk.10.a",
        "blk.10.b",
    ]


def test_first_override_wins_and_ple_first_of_all() -> None:
    recipe = build_recipe(
        "q4_0",
        tensor_types=["per_layer_token_embd=q5_0", "token_embd=q4_1", "attn_v=f16"],
        keep_ple="bf16",
    )
    types = {c.name: c.type.name for c in choose_tensors(text_tensors(ALL["tiny"]), recipe)}
    assert types["per_layer_token_embd.weight"] == "BF16"
    assert types["token_embd.weight"] == "Q4_1"
    assert types["blk.3.attn_v.weight"] == "F16"
    assert types["blk.3.attn_k.weight"] == "Q4_0"


def test_an_override_does_not_count_as_a_layer() -> None:
    """llama.cpp counts only tensors that its rules see: with 0 and 1 named, 2 is first."""
    recipe = Recipe("q3_k_m", overrides=((r"blk\.[01]\.attn_v", "F16"),))
    types = [
        c.type.name
        for c in choose_tensors(text_tensors(ALL["tiny"]), recipe)
        if c.name.endswith("attn_v.weight")
    ]
    assert types == ["F16", "F16", "Q5_K", "Q5_K"] + ["Q4_K"] * 6


def test_reasons_of_embeddings_and_the_output() -> None:
    tensors = [t for t in text_tensors(ALL["e2b"]) if "embd.weight" in t.name]
    output = TensorSpec("output.weight", BF16, (1536, 262_144))

    def list_reasons(*more: TensorSpec) -> dict[str, tuple[str, str]]:
        choices = choose_tensors([*tensors, *more], Recipe("q4_k_m"))
        return {choice.name: (choice.type.name, choice.reason) for choice in choices}

    assert list_reasons() == {
        "token_embd.weight": ("Q6_K", "embeddings, tied to the output"),
        "per_layer_token_embd.weight": ("Q6_K", "per-layer embeddings, as the output"),
    }
    assert list_reasons(output) == {
        "output.weight": ("Q6_K", "the output"),
        "token_embd.weight": ("Q4_K", "default"),
        "per_layer_token_embd.weight": ("Q4_K", "default"),
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nothing_like_it=q8_0", "no tensor has such a name"),
        ("attn_norm=q8_0", "never quantized"),
        ("per_layer_model_proj=q8_0", "never quantized"),
        ("(=q8_0", "not a regular expression"),
        ("ffn_down", "not PATTERN=TYPE"),
        ("=q8_0", "not PATTERN=TYPE"),
        ("ffn_down=q9", "unknown tensor type"),
        ("ffn_down=q8_1", "cannot be written as"),
        ("ffn_down=i8", "cannot be written as"),
    ],
)
def test_bad_overrides_are_errors(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        choose_tensors(text_tensors(ALL["tiny"]), build_recipe("q4_0", tensor_types=[override]))


def test_errors_name_the_option_that_was_given() -> None:
    recipe = build_recipe("q4_0", keep_ple="q6_k")
    dims = [t for t in text_tensors(ALL["tiny"]) if "per_layer" not in t.name]
    with pytest.raises(UsageError, match=r"^--keep-ple q6_k: no tensor has such a name"):
        choose_tensors(dims, recipe)


def test_a_query_that_is_a_vector_is_kept() -> None:
    names = ("blk.0.attn_q.weight", "blk.0.attn_k.weight")
    dims = [TensorSpec(name, BF16, (64,)) for name in names]
    assert [c.type for c in choose_tensors(dims, Recipe("q4_k_m"))] == [BF16, BF16]


def test_types_that_need_an_imatrix() -> None:
    recipe = Recipe("q4_0", overrides=(("ffn_down", "IQ2_XXS"),))
    with pytest.raises(BadFile, match="importance matrix"):
        choose_tensors(text_tensors(ALL["e2b"]), recipe)
    with_one = Recipe("q4_0", overrides=(("ffn_down", "IQ2_XXS"),), has_imatrix=True)
    assert any(c.type.name == "IQ2_XXS" for c in choose_tensors(text_tensors(ALL["e2b"]), with_one))


@pytest.mark.parametrize("name", ["q8", "", "sfp9", "q4_0 ", "int8"])
def test_unknown_types_name_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe(name)
    assert " q4_0 " in str(caught.value.hint)


@pytest.mark.parametrize(
    ("alias", "name"), [("Q4_K", "q4_k_m"), ("q5_k", "q5_k_m"), ("MXFP4_MOE", "mxfp4")]
)
def test_aliases(alias: str, name: str) -> None:
    assert Recipe(alias).type == name


@pytest.mark.parametrize(("container", "kind"), [("bf16", BF16), ("q8_0", Q8_0), ("archive", I8)])
def test_sfp8_takes_every_matrix(container: str, kind: object) -> None:
    choices = choose_tensors(text_tensors(ALL["e2b"]), build_recipe("sfp8", container=container))
    rounded = [c for c in choices if c.rounds]
    assert {c.type for c in rounded} == {kind}
    assert "token_embd.weight" in {c.name for c in rounded}
    assert "per_layer_model_proj.weight" not in {c.name for c in rounded}
    assert sum(len(c.shape) < 2 for c in rounded) == 0


def test_an_archive_has_a_scale_per_tensor_and_one_byte_per_weight() -> None:
    specs = choose_types(text_tensors(ALL["e2b"]), Recipe("sfp8"))
    names = [s.name for s in specs]
    for index, spec in enumerate(specs):
        if spec.type is I8:
            assert names[index + 1] == spec.name + ".sfp8_scale"
            assert specs[index + 1].shape == (1,)
    total = sum(s.nbytes for s in specs)
    assert 4.63e9 < total < 4.68e9  # 4.629 billion weights, and the small BF16 projection


def test_gemma_cpp_options_belong_to_sfp8() -> None:
    with pytest.raises(UsageError, match="--container can only be used"):
        build_recipe("q4_0", container="bf16")
    with pytest.raises(UsageError, match="unknown encoder"):
        build_recipe("sfp8", sfp8_encoder="best")


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (Recipe("Q4_K"), "q4_k_m"),
        (Recipe("q4_0", pure=True, has_imatrix=True), "q4_0 --pure --imatrix"),
        (
            Recipe("sfp8", container="bf16", sfp8_encoder="gemma.cpp"),
            "sfp8 --container bf16 --encoder gemma.cpp",
        ),
        (Recipe("q8_0", overrides=(("a.b", "F16"),)), "q8_0 --tensor-type a.b=f16"),
    ],
)
def test_a_recipe_as_text_can_be_typed(recipe: Recipe, text: str) -> None:
    assert recipe.as_options() == text


def test_converter_types() -> None:
    assert converter_type("blk.0.attn_q.weight", (8, 8)) is BF16
    for name, shape in (
        ("blk.0.attn_norm.weight", (8,)),
        ("blk.0.ffn_gate_inp.weight", (8, 4)),
        ("blk.0.ffn_down_exps.scale", (4,)),
    ):
        assert converter_type(name, shape) is F32


if __name__ == "__main__":  # python tests/unit/quant/test_recipes.py: write the goldens again
    GOLDEN.mkdir(exist_ok=True)
    for model, shape in ALL.items():
        (GOLDEN / f"{model}.txt").write_text(recipes_text(shape))

"""The models by name: shapes against their sources, names as people type them."""

from __future__ import annotations

import json
from math import prod

import pytest

from g4cli.core.errors import UnknownModel, UsageError
from g4cli.core.paths import tiny_dir
from g4cli.core.registry import (
    MADE_TYPES,
    MODELS,
    Model,
    find_model,
    known_names,
    looks_like_name,
    parse_name,
)
from g4cli.core.shape import Shape

REAL = [m for m in MODELS if not m.is_bundled]


def n_text_params(shape: Shape) -> int:
    """Return the number of weights of a text network (layout: src/models/gemma4.cpp)."""
    e, total = shape.n_embd, 0
    for i in range(shape.n_layer):
        width = shape.head_dim_of(i)
        q, kv = shape.n_head[i] * width, shape.n_head_kv[i] * width
        has_v = not (shape.k_eq_v and not shape.is_swa[i])
        total += e * q * 2 + e * kv * (1 + has_v) + 2 * width  # q, output, k, v, their norms
        total += 3 * e * shape.n_ff[i] + 4 * e + 1  # feed-forward, four norms, the layer's scale
        if shape.n_expert:
            total += shape.n_expert * 3 * e * shape.n_ff_expert  # experts
            total += (
                e * shape.n_expert + e + shape.n_expert + 3 * e
            )  # router with its scales, three norms
        if shape.n_embd_per_layer:
            total += 2 * e * shape.n_embd_per_layer + e  # gate, projection, norm
    total += shape.n_vocab * e + e
    if shape.n_embd_per_layer:
        rows = shape.n_layer * shape.n_embd_per_layer
        total += shape.n_vocab * rows + e * rows + shape.n_embd_per_layer
    return total


# reference: gemma4.md section 2, "text": totals that equal those of the hub's model pages
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("e2b", 4_647_449_891),
        ("e4b", 7_518_069_034),
        ("12b", 11_907_350_320),
        ("26b", 25_233_141_790),
        ("31b", 30_697_345_340),
    ],
)
def test_each_shape_gives_the_published_number_of_weights(name: str, expected: int) -> None:
    assert n_text_params(find_model(name).shape) == expected


def test_shapes_of_tiny_are_those_of_its_config() -> None:
    config = json.loads((tiny_dir() / "config.json").read_text())["text_config"]
    shape = find_model("tiny").shape
    n, shared = config["num_hidden_layers"], config["num_kv_shared_layers"]
    wide = 2 if config["use_double_wide_mlp"] else 1
    assert shape == Shape(
        n_layer=n,
        n_embd=config["hidden_size"],
        n_vocab=config["vocab_size"],
        n_ctx_train=config["max_position_embeddings"],
        n_head=(config["num_attention_heads"],) * n,
        n_head_kv=(config["num_key_value_heads"],) * n,
        n_ff=tuple(
            config["intermediate_size"] * (wide if i >= n - shared else 1) for i in range(n)
        ),
        is_swa=tuple(kind == "sliding_attention" for kind in config["layer_types"]),
        head_dim=config["global_head_dim"],
        head_dim_swa=config["head_dim"],
        n_swa=config["sliding_window"],
        n_shared_kv=shared,
        n_embd_per_layer=config["hidden_size_per_layer_input"],
    )


def test_weights_of_tiny_are_counted_from_its_file() -> None:
    path = tiny_dir() / "model.safetensors"
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    held = sum(prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
    assert find_model("tiny").n_params == held


# The KV-cache constants of reference/gemma4.md section 7, f16: bytes per token of all global
# layers, bytes per cell of all sliding ones. They follow from the shape alone.
@pytest.mark.parametrize(
    ("name", "n_full", "n_swa", "full_bytes", "swa_bytes"),
    [
        ("e2b", 3, 12, 6_144, 12_288),
        ("e4b", 4, 20, 16_384, 40_960),
        ("12b", 8, 40, 16_384, 327_680),
        ("26b", 5, 25, 20_480, 204_800),
        ("31b", 10, 50, 81_920, 819_200),
    ],
)
def test_kv_widths_follow_from_the_shape(
    name: str, n_full: int, n_swa: int, full_bytes: int, swa_bytes: int
) -> None:
    shape = find_model(name).shape
    own = range(shape.n_layer_kv)
    assert sum(not shape.is_swa[i] for i in own) == n_full
    assert sum(shape.is_swa[i] for i in own) == n_swa
    assert sum(4 * shape.kv_width(i) for i in own if not shape.is_swa[i]) == full_bytes
    assert sum(4 * shape.kv_width(i) for i in own if shape.is_swa[i]) == swa_bytes


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_each_model_is_whole(model: Model) -> None:
    shape = model.shape
    for per_layer in (shape.n_head, shape.n_head_kv, shape.n_ff, shape.is_swa):
        assert len(per_layer) == shape.n_layer
    assert not shape.is_swa[-1]  # the last layer is always global
    assert model.default_type in model.types
    assert set(MADE_TYPES) <= set(model.types)
    if not model.is_bundled:
        assert model.find_published(model.default_type)
        assert model.published[0].repo.startswith("google/")
        assert model.mmproj
        assert model.drafts
        assert all("/" in p.repo for p in (*model.published, *model.mmproj, *model.drafts))


@pytest.mark.parametrize("model", REAL, ids=lambda m: m.name)
def test_published_sizes_are_plausible_for_their_type(model: Model) -> None:
    bits = {
        "q4_0": (4.3, 6.5),
        "q4_k_m": (4.3, 6.5),
        "q5_k_m": (5, 7),
        "q6_k": (6, 8),
        "q8_0": (8.3, 9),
    }
    for published in model.published:
        if published.nbytes:
            low, high = bits[published.type]
            assert low < published.nbytes * 8 / n_text_params(model.shape) < high, published


@pytest.mark.parametrize(
    ("text", "expected", "chosen"),
    [
        ("tiny", "tiny:bf16", False),
        ("e2b", "e2b:q4_0", False),
        ("E2B:Q8_0", "e2b:q8_0", True),
        ("e4b:q4-k-m", "e4b:q4_k_m", True),
        (" 31b:bf16 ", "31b:bf16", True),
        ("tiny:sfp8", "tiny:sfp8", True),
        ("gemma-4-12B-it", "12b:q4_0", False),
        ("gemma-4-26B-A4B-it:q8_0", "26b:q8_0", True),
        ("26b-a4b", "26b:q4_0", False),
        ("gemma4", "e4b:q4_0", False),
        ("gemma4:31b", "31b:q4_0", False),
        ("e2b-base", "e2b-base:q4_0", False),
        ("31B-base:bf16", "31b-base:bf16", True),
    ],
)
def test_names_as_people_type_them(text: str, expected: str, chosen: bool) -> None:
    ref = parse_name(text)
    assert (str(ref), ref.chosen) == (expected, chosen)


@pytest.mark.parametrize(
    ("text", "near"),
    [("e2", "e2b"), ("tinny", "tiny"), ("32b", "31b"), ("e4b-bse", "e4b-base"), ("e3b", "e2b")],
)
def test_an_unknown_name_offers_the_nearest(text: str, near: str) -> None:
    with pytest.raises(UnknownModel, match=f"did you mean .*{near}") as caught:
        find_model(text)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("text", ["", "llama-3-70b-instruct", "zzz", ":", "../e2b", "tiny-base"])
def test_a_name_unlike_any_is_refused(text: str) -> None:
    with pytest.raises(UnknownModel, match="no model is called"):
        parse_name(text)


def test_an_unknown_type_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match="e2b has no type 'q7_0'") as caught:
        parse_name("e2b:q7_0")
    assert "one of: q4_0 q8_0" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="did you mean sfp8"):
        parse_name("tiny:fp8")
    with pytest.raises(UsageError, match="''"):
        parse_name("tiny:")


def test_base_variants_are_made_from_googles_checkpoints() -> None:
    base = find_model("e2b-base")
    assert base.checkpoint == "google/gemma-4-E2B"
    assert base.published == ()
    assert base.shape == find_model("e2b").shape
    assert "31b-base" in known_names()
    assert "tiny-base" not in known_names()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tiny", True),
        ("e2b:q4_0", True),
        ("a/b", False),
        ("x.gguf", False),
        ("X.GGUF", False),
        ("a\\b", False),
    ],
)
def test_names_and_paths_are_told_apart(text: str, expected: bool) -> None:
    assert looks_like_name(text) is expected


def test_made_types_are_those_that_the_quantiser_knows() -> None:
    from g4cli.quant.recipes import TYPES

    assert set(MADE_TYPES) == set(TYPES)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("tiny:q4", "q4_0"), ("e2b:q4", "q4_0"), ("e2b:q8", "q8_0"), ("e2b:q5", "q5_0"),
     ("e2b:q4_k", "q4_k_m"), ("e2b:qq4_0", "q4_0")],
)  # fmt: skip
def test_a_type_that_was_cut_short_is_completed(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean {meant}") as caught:
        parse_name(typed)
    assert (caught.value.hint or "").count(f"{typed.split(':')[0]}:") == 1

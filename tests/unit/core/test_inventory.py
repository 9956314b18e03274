"""The inventory against the published parameter counts, and against hand-written shapes."""

from __future__ import annotations

from math import prod

import pytest

from g4cli.core.inventory import ROPE_FREQS, text_tensors
from g4cli.core.shape import Shape
from tests.support.builders import shapes

# Totals of the text networks, the token embeddings and the per-layer-embedding tables, as published
# with the models on the Hugging Face hub (sums over the checkpoints' tensors).
COUNTS = (
    # model, text, token_embd, per-layer table
    ("e2b", 4_647_449_891, 402_653_184, 2_348_810_240),
    ("e4b", 7_518_069_034, 671_088_640, 2_818_572_288),
    ("12b", 11_907_350_320, 1_006_632_960, 0),
    ("26b", 25_233_141_790, 738_197_504, 0),
    ("31b", 30_697_345_340, 1_409_286_144, 0),
)


def count_parameters(shape: Shape) -> int:
    """Return the number of parameters as the publisher counts them: without the RoPE table."""
    return sum(prod(t.shape) for t in text_tensors(shape) if t.name != ROPE_FREQS)


@pytest.mark.parametrize(("model", "text", "embedding", "table"), COUNTS)
def test_parameter_counts_equal_the_published_ones(
    model: str, text: int, embedding: int, table: int
) -> None:
    shape = shapes.ALL[model]
    tensors = {t.name: t for t in text_tensors(shape)}
    assert count_parameters(shape) == text
    assert prod(tensors["token_embd.weight"].shape) == embedding
    ple = tensors.get("per_layer_token_embd.weight")
    assert (prod(ple.shape) if ple else 0) == table


def test_experts_of_26b_hold_what_the_model_card_says() -> None:
    experts = [t for t in text_tensors(shapes.A4B) if t.name.endswith("_exps.weight")]
    assert sum(prod(t.shape) for t in experts) == 22_837_985_280


def test_active_parameters_of_26b() -> None:
    """3.8 B active: everything but the 120 of 128 experts that a token does not visit."""
    experts = 22_837_985_280
    assert count_parameters(shapes.A4B) - experts + experts * 8 // 128 == 3_822_530_590


def test_names_are_unique_and_ordered_like_a_safetensors_file() -> None:
    names = [t.name for t in text_tensors(shapes.E2B)]
    assert len(names) == len(set(names))
    assert names[:4] == [
        "rope_freqs.weight",
        "token_embd.weight",
        "per_layer_token_embd.weight",
        "blk.0.attn_norm.weight",
    ]
    layers = list(dict.fromkeys(n.split(".")[1] for n in names if n.startswith("blk.")))
    assert layers[:4] == ["0", "1", "10", "11"]
    assert names[-1] == "per_layer_proj_norm.weight"


def test_shapes_follow_the_kind_of_layer() -> None:
    e2b = {t.name: t.shape for t in text_tensors(shapes.E2B)}
    assert e2b["rope_freqs.weight"] == (256,)
    assert e2b["blk.0.attn_q.weight"] == (1536, 8 * 256)  # sliding
    assert e2b["blk.4.attn_q.weight"] == (1536, 8 * 512)  # full
    assert e2b["blk.14.ffn_up.weight"] == (1536, 6144)
    assert e2b["blk.15.ffn_up.weight"] == (1536, 12288)  # shares its cache, has the wide MLP
    assert "blk.34.attn_k.weight" in e2b  # unused, but in every published file
    a4b = {t.name: t.shape for t in text_tensors(shapes.A4B)}
    assert a4b["blk.0.ffn_gate_up_exps.weight"] == (2816, 1408, 128)
    assert a4b["blk.0.ffn_down_exps.scale"] == (128,)
    assert "blk.0.attn_v.weight" in a4b
    assert "blk.5.attn_v.weight" not in a4b  # K = V on full layers
    assert "per_layer_model_proj.weight" not in a4b

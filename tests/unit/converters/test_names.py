"""The tables of names: (checkpoint name, GGUF name) for every kind of tensor, and that no row is
dead.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from g4cli.converters import audio, text, vision
from g4cli.converters.checkpoint import CheckpointTensor
from g4cli.converters.config import Config, TextConfig, read_config
from g4cli.converters.names import Row, claim_tensors, expand_rows
from g4cli.core.errors import BadCheckpoint
from tests.support.builders import variants

L = "model.language_model."
TEXT = [
    # in, want
    (f"{L}embed_tokens.weight", "token_embd.weight"),
    (f"{L}embed_tokens_per_layer.weight", "per_layer_token_embd.weight"),
    (f"{L}per_layer_model_projection.weight", "per_layer_model_proj.weight"),
    (f"{L}per_layer_projection_norm.weight", "per_layer_proj_norm.weight"),
    (f"{L}norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
    (f"{L}layers.3.input_layernorm.weight", "blk.3.attn_norm.weight"),
    (f"{L}layers.3.layer_scalar", "blk.3.layer_output_scale.weight"),
    (f"{L}layers.3.self_attn.q_norm.weight", "blk.3.attn_q_norm.weight"),
    (f"{L}layers.3.self_attn.k_norm.weight", "blk.3.attn_k_norm.weight"),
    (f"{L}layers.3.self_attn.v_proj.weight", "blk.3.attn_v.weight"),
    (f"{L}layers.3.self_attn.o_proj.weight", "blk.3.attn_output.weight"),
    (f"{L}layers.3.post_attention_layernorm.weight", "blk.3.post_attention_norm.weight"),
    (f"{L}layers.3.pre_feedforward_layernorm.weight", "blk.3.ffn_norm.weight"),
    (f"{L}layers.3.post_feedforward_layernorm.weight", "blk.3.post_ffw_norm.weight"),
    (f"{L}layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"),
    (f"{L}layers.3.per_layer_input_gate.weight", "blk.3.inp_gate.weight"),
    (f"{L}layers.3.per_layer_projection.weight", "blk.3.proj.weight"),
    (f"{L}layers.3.post_per_layer_input_norm.weight", "blk.3.post_norm.weight"),
    # prefixes of other releases and of text-only checkpoints
    ("language_model.model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight"),
    ("model.layers.0.mlp.gate_proj.weight", "blk.0.ffn_gate.weight"),
]
MOE = [
    (f"{L}layers.1.router.proj.weight", "blk.1.ffn_gate_inp.weight"),
    (f"{L}layers.1.router.scale", "blk.1.ffn_gate_inp.scale"),
    (f"{L}layers.1.router.per_expert_scale", "blk.1.ffn_down_exps.scale"),
    (f"{L}layers.1.experts.gate_up_proj", "blk.1.ffn_gate_up_exps.weight"),
    (f"{L}layers.1.experts.down_proj", "blk.1.ffn_down_exps.weight"),
    (f"{L}layers.1.pre_feedforward_layernorm_2.weight", "blk.1.pre_ffw_norm_2.weight"),
    (f"{L}layers.1.post_feedforward_layernorm_1.weight", "blk.1.post_ffw_norm_1.weight"),
    (f"{L}layers.1.post_feedforward_layernorm_2.weight", "blk.1.post_ffw_norm_2.weight"),
]
V, A = "model.vision_tower.", "model.audio_tower."
VISION = [
    (f"{V}patch_embedder.input_proj.weight", "v.patch_embd.weight"),
    (f"{V}patch_embedder.position_embedding_table", "v.position_embd.weight"),
    (f"{V}encoder.layers.1.self_attn.o_proj.linear.weight", "v.blk.1.attn_out.weight"),
    (f"{V}encoder.layers.1.self_attn.o_proj.output_min", "v.blk.1.attn_out.output_min"),
    (f"{V}encoder.layers.1.pre_feedforward_layernorm.weight", "v.blk.1.ln2.weight"),
    (f"{V}encoder.layers.1.post_attention_layernorm.weight", "v.blk.1.attn_post_norm.weight"),
    ("model.embed_vision.embedding_projection.weight", "mm.input_projection.weight"),
]
AUDIO = [
    (f"{A}subsample_conv_projection.layer1.conv.weight", "a.conv1d.1.weight"),
    (f"{A}subsample_conv_projection.layer0.norm.weight", "a.conv1d.0.norm.weight"),
    (f"{A}subsample_conv_projection.input_proj_linear.weight", "a.input_projection.weight"),
    (f"{A}layers.0.feed_forward2.ffw_layer_1.linear.weight", "a.blk.0.ffn_up_1.weight"),
    (f"{A}layers.0.feed_forward1.post_layer_norm.weight", "a.blk.0.ffn_post_norm.weight"),
    (f"{A}layers.0.self_attn.relative_k_proj.weight", "a.blk.0.attn_k_rel.weight"),
    (f"{A}layers.0.self_attn.per_dim_scale", "a.blk.0.per_dim_scale.weight"),
    (f"{A}layers.0.lconv1d.pre_layer_norm.weight", "a.blk.0.conv_norm.weight"),
    (f"{A}layers.0.lconv1d.conv_norm.weight", "a.blk.0.norm_conv.weight"),
    (f"{A}layers.0.norm_out.weight", "a.blk.0.ln2.weight"),
    (f"{A}output_proj.bias", "a.pre_encode.out.bias"),
    ("model.embed_audio.embedding_projection.weight", "mm.a.input_projection.weight"),
]
UNIFIED = [
    ("model.vision_embedder.patch_ln1.bias", "v.patch_norm.1.bias"),
    ("model.vision_embedder.pos_norm.weight", "v.patch_norm.3.weight"),
    ("model.vision_embedder.patch_dense.bias", "v.patch_embd.bias"),
    ("model.vision_embedder.pos_embedding", "v.position_embd.weight"),
]
ASSISTANT = [
    ("pre_projection.weight", "nextn.pre_projection.weight"),
    ("post_projection.weight", "nextn.post_projection.weight"),
    ("model.embed_tokens.weight", "token_embd.weight"),
]


def config(name: str) -> Config:
    return read_config(variants.load(name)["files"]["config.json"], name)


@pytest.mark.parametrize(
    ("variant", "network", "rows", "normalize_name", "cases"),
    [
        ("gemma-4-E2B-it", "text", text.ROWS, text.normalize_name, TEXT),
        ("gemma-4-26B-A4B-it", "text", text.ROWS, text.normalize_name, MOE),
        ("gemma-4-E2B-it", "vision", vision.ENCODER_ROWS, vision.normalize_name, VISION),
        ("gemma-4-E2B-it", "audio", audio.CONFORMER_ROWS, vision.normalize_name, AUDIO),
        ("gemma-4-12B-it", "embedder", vision.EMBEDDER_ROWS, vision.normalize_name, UNIFIED),
        ("gemma-4-E2B-it-assistant", "text", text.ASSISTANT_ROWS, text.normalize_name, ASSISTANT),
    ],
    ids=["text", "experts", "vision", "audio", "12B", "assistant"],
)
def test_in_and_want(
    variant: str,
    network: str,
    rows: tuple[Row[Any], ...],
    normalize_name: object,
    cases: list[tuple[str, str]],
) -> None:
    table = expand_rows(rows, getattr(config(variant), network), 4)
    for name, want in cases:
        assert table[normalize_name(name)].target == want, name  # type: ignore[operator]


def test_every_row_is_met_by_a_recorded_checkpoint() -> None:
    met: set[str] = set()
    for name in variants.names():
        golden = variants.load(name)
        for key in golden["checkpoint"]:
            met |= {
                re.sub(r"\.\d+\.", ".{}.", n(key))
                for n in (text.normalize_name, vision.normalize_name)
            }
    tables: tuple[tuple[Row[Any], ...], ...] = (
        text.ASSISTANT_ROWS,
        vision.ENCODER_ROWS,
        vision.EMBEDDER_ROWS,
        audio.CONFORMER_ROWS,
        audio.EMBEDDER_ROWS,
    )
    dead = {row.source for rows in tables for row in rows} - met
    assert dead == {"lm_head.weight"}  # tied in every published checkpoint


def test_two_rows_for_one_name_are_a_bug() -> None:
    row: Row[TextConfig] = Row("a.weight", "b.weight", lambda _t, _i: (1,))
    with pytest.raises(ValueError, match=r"two rows claim a\.weight"):
        expand_rows((row, row), config("my-finetune").text, 1)


def test_the_same_tensor_under_two_names_is_refused() -> None:
    table = expand_rows(text.ROWS, config("my-finetune").text, 0)
    shape = (variants.N_VOCAB, 64)
    tensors = {
        name: CheckpointTensor(name, "BF16", shape, 0, 0, 2)
        for name in ("model.embed_tokens.weight", "language_model.model.embed_tokens.weight")
    }
    with pytest.raises(BadCheckpoint, match="are the same tensor"):
        claim_tensors(tensors, table, (), text.normalize_name, str(Path("folder")))

"""config.json in both spellings; what changes the graph and has no place in a GGUF is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from g4cli.converters.config import Config, read_config
from g4cli.converters.parts import make_part
from g4cli.core.errors import BadCheckpoint, UsageError
from tests.support.builders.checkpoints import TINY

RAW: dict[str, Any] = json.loads((TINY / "config.json").read_text())


def read(text: dict[str, Any] | None = None, **top: Any) -> Config:
    raw = {**RAW, **top, "text_config": {**RAW["text_config"], **(text or {})}}
    raw["text_config"] = {k: v for k, v in raw["text_config"].items() if v is not ...}
    return read_config(raw, "config.json")


def test_tiny_layer_by_layer() -> None:
    text = read().text
    assert [text.is_swa[i] for i in range(10)] == [True] * 4 + [False] + [True] * 4 + [False]
    assert [text.head_dim_of(i) for i in (0, 4)] == [64, 128]
    assert [text.n_ff_of(i) for i in (4, 5)] == [64, 128]
    assert [text.is_shared(i) for i in (4, 5)] == [False, True]
    assert text.n_head_kv_of(4) == 1


def test_both_spellings_of_the_global_layers_say_the_same() -> None:
    spelled = {"global_head_dim": ..., "num_global_key_value_heads": ...}
    new = read({**spelled, "per_layer_config": {"4": {"head_dim": 128}, "9": {"head_dim": 128}}})
    assert new.text == read().text


def test_key_value_heads_of_global_layers_count_only_where_k_is_v() -> None:
    # transformers 5.23.0, configuration_gemma4.py, __post_init__: attention_k_eq_v gates them.
    assert read({"num_global_key_value_heads": 2}).text.n_head_kv_full is None
    gated = read({"num_global_key_value_heads": 2, "attention_k_eq_v": True}).text
    assert (gated.n_head_kv_full, gated.n_head_kv_of(0), gated.n_head_kv_of(4)) == (2, 1, 2)
    assert gated.k_is_v(4)
    assert not gated.k_is_v(0)


def test_defaults_are_those_of_transformers() -> None:
    raw = {"architectures": ["Gemma4ForConditionalGeneration"], "text_config": {}}
    text = read_config(raw, "c").text
    assert (text.n_layer, text.hidden, text.n_ff, text.n_head, text.n_head_kv) == (
        30,
        2304,
        9216,
        8,
        4,
    )
    assert (text.head_dim, text.head_dim_full, text.n_ctx, text.n_vocab) == (
        256,
        512,
        131072,
        262144,
    )
    assert (text.sliding_window, text.hidden_per_layer, text.softcap, text.tied) == (
        512,
        256,
        None,
        True,
    )
    assert (text.theta_full, text.theta_swa, text.partial_full) == (1e6, 1e4, 0.25)
    assert [i for i, swa in enumerate(text.is_swa) if not swa] == [5, 11, 17, 23, 29]
    unified = {"architectures": ["Gemma4UnifiedForConditionalGeneration"], "text_config": {}}
    text = read_config(unified, "c").text
    assert (text.n_ctx, text.sliding_window, text.hidden_per_layer) == (262144, 1024, 0)


def test_an_assistant_shares_all_its_layers() -> None:
    raw = {**RAW, "architectures": ["Gemma4AssistantForCausalLM"], "backbone_hidden_size": 64}
    raw["text_config"] = {**RAW["text_config"], "num_kv_shared_layers": 0}
    config = read_config(raw, "c")
    assert (config.text.n_shared_kv, config.text.backbone_hidden) == (10, 64)


@pytest.mark.parametrize(
    ("text", "top", "match"),
    [
        ({"brand_new_gate": 3}, {}, r"unknown key text_config.brand_new_gate = 3"),
        ({}, {"mystery": True}, "unknown key mystery = True"),
        ({"attention_bias": True}, {}, "attention_bias is True"),
        ({"hidden_activation": "relu"}, {}, "hidden_activation is 'relu'"),
        ({"use_bidirectional_attention": "all"}, {}, "use_bidirectional_attention is 'all'"),
        ({"num_hidden_layers": 0}, {}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 10**9}, {}, "is 1000000000; it must be an integer from 1 to 512"),
        ({"num_hidden_layers": "ten"}, {}, "num_hidden_layers is 'ten'"),
        ({"layer_types": ["sliding_attention"] * 10}, {}, "the last layer is sliding_attention"),
        ({"layer_types": ["full_attention"]}, {}, "layer_types does not give"),
        ({"layer_types": ["linear_attention"] * 10}, {}, "layer_types does not give"),
        ({"layer_types": [["full_attention"]] * 10}, {}, "layer_types does not give"),
        ({"rms_norm_eps": -1}, {}, "rms_norm_eps is -1"),
        ({"rope_parameters": {"full_attention": {}}}, {}, "rope_parameters needs"),
        ({"enable_moe_block": True}, {}, "num_experts is missing"),
        ({"per_layer_config": {"4": {"head_dim": 128}}}, {}, "does not name exactly"),
        (
            {"per_layer_config": {"4": {"head_dim": 128}, "9": {"head_dim": 64}}},
            {},
            "differs between",
        ),
        ({"per_layer_config": {"4": {"window": 1}, "9": {"window": 1}}}, {}, "unknown keys window"),
        ({}, {"architectures": ["LlamaForCausalLM"]}, "the architecture is 'LlamaForCausalLM'"),
        ({}, {"architectures": None}, "the architecture is None"),
        (
            {},
            {"quantization_config": {"quant_method": "compressed-tensors"}},
            "already quantized .compressed",
        ),
        ({}, {"vision_config": 5}, "vision_config is not an object"),
    ],
)
def test_what_has_no_place_in_the_graph_is_refused(
    text: dict[str, Any], top: dict[str, Any], match: str
) -> None:
    with pytest.raises(BadCheckpoint, match=match):
        read(text, **top)


def rope(full: dict[str, Any], sliding: dict[str, Any] | None = None) -> dict[str, Any]:
    good = RAW["text_config"]["rope_parameters"]
    return {
        "rope_parameters": {
            "full_attention": {**good["full_attention"], **full},
            "sliding_attention": {**good["sliding_attention"], **(sliding or {})},
        }
    }


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (rope({"rope_type": "yarn"}), "rope_type of full_attention is 'yarn'"),
        (rope({"factor": 4.0}), "full_attention has the unknown key factor"),
        (rope({"partial_rotary_factor": 2.0}), "at most 1"),
        (rope({}, {"rope_type": "linear"}), "rope_type of sliding_attention is 'linear'"),
        (rope({}, {"partial_rotary_factor": 0.5}), "sliding_attention has the unknown key"),
    ],
)
def test_rope_that_has_no_graph_is_refused(edit: dict[str, Any], match: str) -> None:
    with pytest.raises(BadCheckpoint, match=match):
        read(edit)


def test_all_faults_are_told_at_once_and_a_key_can_be_vouched_for() -> None:
    raw = {**RAW, "one": 1, "text_config": {**RAW["text_config"], "two": 2, "off": None, "none": 0}}
    with pytest.raises(
        BadCheckpoint, match=r"unknown key one.*unknown key text_config.two"
    ) as caught:
        read_config(raw, "config.json")
    assert caught.value.hint is not None
    assert "--ignore-key" in caught.value.hint
    assert (
        read_config(raw, "config.json", frozenset(("one", "text_config.two"))).text == read().text
    )


# google/gemma-4-E2B-it as third parties quote it: the keys that its config.json is known to have.
PUBLISHED_VISION = {
    "model_type": "gemma4_vision", "hidden_size": 768, "intermediate_size": 3072,
    "num_hidden_layers": 16,
    "num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 64, "global_head_dim": 64,
    "patch_size": 16, "pooling_kernel_size": 3, "position_embedding_size": 10240,
    "default_output_length": 280,
    "rms_norm_eps": 1e-6, "standardize": False, "use_clipped_linears": True, "hidden_activation":
    "gelu_pytorch_tanh", "attention_bias": False, "attention_dropout": 0.0,
    "max_position_embeddings": 131072,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}, "_name_or_path": "",
    "architectures": None,
    "chunk_size_feed_forward": 0, "dtype": "bfloat16", "id2label": {"0": "LABEL_0"},
    "return_dict": True,
}  # fmt: skip
PUBLISHED_AUDIO = {
    "model_type": "gemma4_audio", "hidden_size": 1024, "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "subsampling_conv_channels": [128, 32], "conv_kernel_size": 5, "attention_chunk_size": 12,
    "attention_context_left": 13, "attention_context_right": 0,
    "attention_invalid_logits_value": -1e9,
    "attention_logit_cap": 50.0, "gradient_clipping": 1e10, "output_proj_dims": 1536,
    "residual_weight": 0.5,
    "rms_norm_eps": 1e-6, "use_clipped_linears": True,
}  # fmt: skip
PUBLISHED_12B = {
    "architectures": ["Gemma4UnifiedForConditionalGeneration"],
    "eoa_token_id": 258883,
    "text_config": {
        "model_type": "gemma4_unified_text", "hidden_size": 3840, "intermediate_size": 15360,
        "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 8,
        "head_dim": 256,
        "global_head_dim": 512, "num_global_key_value_heads": 1, "sliding_window": 1024,
        "enable_moe_block": False, "num_experts": None, "hidden_size_per_layer_input": 0,
        "attention_k_eq_v": True, "num_kv_shared_layers": 0, "final_logit_softcapping": 30.0,
    },
    "vision_config": {
        "model_type": "gemma4_unified_vision", "mm_embed_dim": 3840, "mm_posemb_size": 1120,
        "model_patch_size": 48, "patch_size": 16, "num_soft_tokens": 280, "pooling_kernel_size": 3,
        "output_proj_dims": 3840,
    },
    "audio_config": {
        "model_type": "gemma4_unified_audio", "audio_embed_dim": 640,
        "audio_samples_per_token": 640,
        "hidden_size": 640, "output_proj_dims": 640,
    },
}  # fmt: skip


def test_configs_as_published_are_understood() -> None:
    config = read(
        vision_config=PUBLISHED_VISION,
        audio_config=PUBLISHED_AUDIO,
        vision_soft_tokens_per_image=280,
    )
    assert config.vision is not None
    assert config.audio is not None
    assert (config.vision.n_layer, config.vision.clipped, config.audio.channels) == (
        16,
        True,
        (128, 32),
    )
    unified = read_config(PUBLISHED_12B, "c")
    assert unified.embedder is not None
    assert (unified.embedder.patch, unified.embedder.n_samples) == (48, 640)
    assert (unified.text.n_head_kv_of(5), unified.text.n_head_kv_of(0)) == (1, 8)


def test_a_tower_s_config_cannot_hinder_the_text_network() -> None:
    raw = {**RAW, "vision_config": {"brand_new": 7, "hidden_activation": "relu"}, "audio_config": 5}
    assert read_config(raw, "c", media=False).text == read().text
    with pytest.raises(
        BadCheckpoint, match=r"vision_config\.brand_new.*audio_config is not an object"
    ):
        read_config(raw, "c")


def test_an_mmproj_of_the_12b_needs_both_embedders() -> None:
    raw = {name: value for name, value in PUBLISHED_12B.items() if name != "audio_config"}
    with pytest.raises(UsageError, match="no vision_config and audio_config, so no mmproj"):
        make_part("mmproj", read_config(raw, "c"), Path("12b"), 32)


def test_layers_may_be_numbered_with_leading_zeros() -> None:
    spelled = {"global_head_dim": ..., "num_global_key_value_heads": ...}
    overrides = {"04": {"head_dim": 128}, "09": {"head_dim": 128}}
    assert read({**spelled, "per_layer_config": overrides}).text == read().text


def test_a_layer_number_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(BadCheckpoint, match="per_layer_config does not name exactly"):
        read({"per_layer_config": {"9" * 5000: {"head_dim": 128}}})


@pytest.mark.parametrize(
    ("vision", "match"),
    [
        ({"global_head_dim": 128}, "global_head_dim is 128, head_dim is 64"),
        ({"pooling_kernel_size": 4}, "pooling_kernel_size is 4"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps is 1e-05"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
    ],
)
def test_towers_without_a_graph_are_refused(vision: dict[str, Any], match: str) -> None:
    with pytest.raises(BadCheckpoint, match=match):
        read(vision_config={**PUBLISHED_VISION, **vision})


@pytest.mark.parametrize("channels", [[128], [128, True], [128, "32"]])
def test_channels_that_are_no_two_integers_are_refused(channels: list[Any]) -> None:
    with pytest.raises(BadCheckpoint, match="subsampling_conv_channels"):
        read(audio_config={**PUBLISHED_AUDIO, "subsampling_conv_channels": channels})

"""The audio encoder (a conformer) of E2B and E4B, and the audio embedder of the 12B.

Sources: conversion/gemma.py (Gemma4VisionAudioModel), conversion/base.py (MmprojModel) and
gguf-py/gguf/tensor_mapping.py, llama.cpp@0c1e57098. Every tensor with "_conv" in its checkpoint
name is F32 there: the convolutions, and also the projection after them.
"""

from __future__ import annotations

from typing import Final

from g4cli.converters.media_config import AudioConfig, EmbedderConfig
from g4cli.converters.names import Row, ShapeOf
from g4cli.converters.transforms import apply_softplus, drop_middle
from g4cli.converters.vision import clipped_linear_rows
from g4cli.core.gguf_values import Value, bool_value, float32_value, string_value, uint32_value


def _linear_rows(
    source: str, target: str, shape: ShapeOf[AudioConfig]
) -> tuple[Row[AudioConfig], ...]:
    return clipped_linear_rows(f"audio_tower.layers.{{}}.{source}", f"a.blk.{{}}.{target}", shape)


def _square_shape(audio: AudioConfig, _: int) -> tuple[int, ...]:
    return audio.hidden, audio.hidden


def _up_shape(audio: AudioConfig, _: int) -> tuple[int, ...]:
    return 4 * audio.hidden, audio.hidden


def _down_shape(audio: AudioConfig, _: int) -> tuple[int, ...]:
    return audio.hidden, 4 * audio.hidden


def _hidden_shape(audio: AudioConfig, _: int) -> tuple[int, ...]:
    return (audio.hidden,)


def _layer_row(
    source: str, target: str, shape: ShapeOf[AudioConfig] = _hidden_shape
) -> Row[AudioConfig]:
    """Return the row of a weight that each layer has; by default it is a norm's vector."""
    return Row(f"audio_tower.layers.{{}}.{source}.weight", f"a.blk.{{}}.{target}.weight", shape)


_SUBSAMPLE: Final = "audio_tower.subsample_conv_projection"

CONFORMER_ROWS: Final[tuple[Row[AudioConfig], ...]] = (
    Row(
        f"{_SUBSAMPLE}.layer0.conv.weight",
        "a.conv1d.0.weight",
        lambda a, _: (a.channels[0], 1, 3, 3),
        f32=True,
    ),
    Row(
        f"{_SUBSAMPLE}.layer0.norm.weight",
        "a.conv1d.0.norm.weight",
        lambda a, _: (a.channels[0],),
    ),
    Row(
        f"{_SUBSAMPLE}.layer1.conv.weight",
        "a.conv1d.1.weight",
        lambda a, _: (a.channels[1], a.channels[0], 3, 3),
        f32=True,
    ),
    Row(
        f"{_SUBSAMPLE}.layer1.norm.weight",
        "a.conv1d.1.norm.weight",
        lambda a, _: (a.channels[1],),
    ),
    Row(
        f"{_SUBSAMPLE}.input_proj_linear.weight",
        "a.input_projection.weight",
        # Two convolutions of stride 2 leave a quarter of the mel bins. transformers computes that
        # from the first number of channels, which equals the number of bins (128).
        lambda a, _: (a.hidden, a.channels[0] // 4 * a.channels[1]),
        f32=True,
    ),
    *_linear_rows("feed_forward1.ffw_layer_1", "ffn_up", _up_shape),
    *_linear_rows("feed_forward1.ffw_layer_2", "ffn_down", _down_shape),
    _layer_row("feed_forward1.pre_layer_norm", "ffn_norm"),
    _layer_row("feed_forward1.post_layer_norm", "ffn_post_norm"),
    *_linear_rows("feed_forward2.ffw_layer_1", "ffn_up_1", _up_shape),
    *_linear_rows("feed_forward2.ffw_layer_2", "ffn_down_1", _down_shape),
    _layer_row("feed_forward2.pre_layer_norm", "ffn_norm_1"),
    _layer_row("feed_forward2.post_layer_norm", "ffn_post_norm_1"),
    *_linear_rows("self_attn.q_proj", "attn_q", _square_shape),
    *_linear_rows("self_attn.k_proj", "attn_k", _square_shape),
    *_linear_rows("self_attn.v_proj", "attn_v", _square_shape),
    *_linear_rows("self_attn.post", "attn_out", _square_shape),
    _layer_row("self_attn.relative_k_proj", "attn_k_rel", _square_shape),
    Row(
        "audio_tower.layers.{}.self_attn.per_dim_scale",
        "a.blk.{}.per_dim_scale.weight",
        lambda a, _: (a.hidden // a.n_head,),
        value=apply_softplus,
    ),
    *_linear_rows("lconv1d.linear_start", "conv_pw1", lambda a, _: (2 * a.hidden, a.hidden)),
    *_linear_rows("lconv1d.linear_end", "conv_pw2", _square_shape),
    Row(
        "audio_tower.layers.{}.lconv1d.depthwise_conv1d.weight",
        "a.blk.{}.conv_dw.weight",
        lambda a, _: (a.hidden, 1, a.kernel),
        view=drop_middle,
        f32=True,
    ),
    _layer_row("lconv1d.pre_layer_norm", "conv_norm"),
    _layer_row("lconv1d.conv_norm", "norm_conv"),
    _layer_row("norm_pre_attn", "attn_pre_norm"),
    _layer_row("norm_post_attn", "attn_post_norm"),
    _layer_row("norm_out", "ln2"),
    Row(
        "audio_tower.output_proj.weight",
        "a.pre_encode.out.weight",
        lambda a, _: (a.n_out, a.hidden),
    ),
    Row("audio_tower.output_proj.bias", "a.pre_encode.out.bias", lambda a, _: (a.n_out,)),
    Row(
        "embed_audio.embedding_projection.weight",
        "mm.a.input_projection.weight",
        lambda a, _: (a.text_hidden, a.n_out),
    ),
)

EMBEDDER_ROWS: Final[tuple[Row[EmbedderConfig], ...]] = (
    Row(
        "embed_audio.embedding_projection.weight",
        "mm.a.input_projection.weight",
        lambda e, _: (e.text_hidden, e.n_samples),
    ),
)


def audio_keys(network: AudioConfig | EmbedderConfig) -> dict[str, Value]:
    """Return the audio keys, but those that llama.cpp's converter writes last (`closing_keys`)."""
    if isinstance(network, EmbedderConfig):  # it has no layers
        hidden, n_ff, n_layer, n_head = network.n_samples, 0, 0, 0
    else:
        hidden, n_layer, n_head = network.hidden, network.n_layer, network.n_head
        n_ff = 4 * hidden
    return {
        "clip.has_audio_encoder": bool_value(True),
        "clip.audio.projection_dim": uint32_value(network.text_hidden),
        "clip.audio.embedding_length": uint32_value(hidden),
        "clip.audio.feed_forward_length": uint32_value(n_ff),
        "clip.audio.block_count": uint32_value(n_layer),
        "clip.audio.attention.head_count": uint32_value(n_head),
    }


def closing_keys(network: AudioConfig | EmbedderConfig) -> dict[str, Value]:
    """Return the projector's name, the mel bins and the norm's epsilon.

    The 12B embeds samples, not mel bins; llama.cpp's converter writes 128 for it all the same. The
    epsilon is 1e-6 there, whatever the config says.
    """
    name, n_mel = (
        ("gemma4ua", 128) if isinstance(network, EmbedderConfig) else ("gemma4a", network.n_mel)
    )
    return {
        "clip.audio.projector_type": string_value(name),
        "clip.audio.num_mel_bins": uint32_value(n_mel),
        "clip.audio.attention.layer_norm_epsilon": float32_value(1e-6),
    }

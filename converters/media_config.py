"""vision_config and audio_config as typed values; defaults as in transformers 5.23.0.

`text_hidden` is in all of them the hidden size of the text network, which the projector's outputs
have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from g4cli.converters.json_reader import Reader

MAX_LAYERS: Final = 512  # LLAMA_MAX_LAYERS, src/llama-hparams.h, llama.cpp@0c1e57098


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The vision encoder of E2B, E4B, 26B-A4B and 31B.

    `patch` is the side of a patch in pixels, `n_positions` the length of the position table of each
    axis. `clipped`: linear layers clamp their inputs and outputs. `standardize`: the output is
    shifted and scaled.
    """

    hidden: int
    n_ff: int
    n_layer: int
    n_head: int
    head_dim: int
    patch: int
    n_positions: int
    clipped: bool
    standardize: bool
    text_hidden: int


@dataclass(frozen=True, slots=True)
class AudioConfig:
    """The audio encoder of E2B and E4B. Its feed-forward size is four times `hidden`.

    `channels` are those of the two convolutions that shorten the input, `kernel` is the width of
    the convolution in each layer, `n_out` the size of an output vector, `n_mel` the number of mel
    bins. `clipped`: linear layers clamp their inputs and outputs.
    """

    hidden: int
    n_layer: int
    n_head: int
    channels: tuple[int, int]
    kernel: int
    n_out: int
    clipped: bool
    n_mel: int
    text_hidden: int


@dataclass(frozen=True, slots=True)
class EmbedderConfig:
    """The 12B's embedders, which replace the encoders of the other models.

    An image is split into patches of `patch` x `patch` pixels, audio into pieces of `n_samples`.
    `embed` is the size of an embedded patch, `n_out` that of the projection's input. `patch_key` is
    the patch size that the GGUF records: that of the patches before pooling.
    """

    embed: int
    n_out: int
    patch: int
    patch_key: int
    n_positions: int
    n_samples: int
    text_hidden: int


def read_vision_config(raw: Mapping[str, Any], text_hidden: int, faults: list[str]) -> VisionConfig:
    """Return the vision encoder's config; faults are added to `faults`."""
    reader = Reader(raw, faults)
    head_dim = reader.read_int("head_dim", 64)
    # Published configs have both; the encoder has no global layers.
    if reader.read_int("global_head_dim", head_dim) != head_dim:
        faults.append(
            f"vision_config: global_head_dim is {raw['global_head_dim']}, head_dim is {head_dim}"
        )
    return VisionConfig(
        hidden=reader.read_int("hidden_size", 768),
        n_ff=reader.read_int("intermediate_size", 3072),
        n_layer=reader.read_int("num_hidden_layers", 16, high=MAX_LAYERS + 1),
        n_head=reader.read_int("num_attention_heads", 12),
        head_dim=head_dim,
        patch=reader.read_int("patch_size", 16, high=1024),
        n_positions=reader.read_int("position_embedding_size", 10240),
        clipped=reader.read_bool("use_clipped_linears", False),
        standardize=reader.read_bool("standardize", False),
        text_hidden=text_hidden,
    )


def read_audio_config(raw: Mapping[str, Any], text_hidden: int, faults: list[str]) -> AudioConfig:
    """Return the audio encoder's config; faults are added to `faults`."""
    reader = Reader(raw, faults)
    channels = raw.get("subsampling_conv_channels", [128, 32])
    if (
        not isinstance(channels, list)
        or len(channels) != 2
        or not all(type(n) is int for n in channels)
    ):
        faults.append(f"subsampling_conv_channels is {channels!r}; it must be two integers")
        channels = [128, 32]
    return AudioConfig(
        hidden=reader.read_int("hidden_size", 1024),
        n_layer=reader.read_int("num_hidden_layers", 12, high=MAX_LAYERS + 1),
        n_head=reader.read_int("num_attention_heads", 8),
        channels=(channels[0], channels[1]),
        kernel=reader.read_int("conv_kernel_size", 5),
        n_out=reader.read_int("output_proj_dims", 1536),
        clipped=reader.read_bool("use_clipped_linears", True),
        n_mel=reader.read_int("input_feat_size", 128),
        text_hidden=text_hidden,
    )


def read_embedder_config(
    vision: Mapping[str, Any], audio: Mapping[str, Any], text_hidden: int, faults: list[str]
) -> EmbedderConfig:
    """Return the 12B's embedders; faults are added to `faults`."""
    reader, audio_reader = Reader(vision, faults), Reader(audio, faults)
    patch = reader.read_int("patch_size", 16, high=1024)
    merged = patch * reader.read_int("pooling_kernel_size", 3, high=64)
    if reader.read_int("model_patch_size", merged) != merged:
        faults.append(f"model_patch_size is not patch_size times pooling_kernel_size ({merged})")
    return EmbedderConfig(
        embed=reader.read_int("mm_embed_dim", 3840),
        n_out=reader.read_int("output_proj_dims", 3840),
        patch=merged,
        patch_key=patch,
        n_positions=reader.read_int("mm_posemb_size", 1120),
        n_samples=audio_reader.read_int("audio_embed_dim", 640),
        text_hidden=text_hidden,
    )

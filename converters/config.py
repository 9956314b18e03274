"""config.json of every Gemma 4 variant as one typed Config, in both spellings.

Spelling 1 (configs on the hub): `global_head_dim`, `num_global_key_value_heads`.
Spelling 2 (transformers 5.20 and later): `per_layer_config: {"5": {"head_dim": 512, ...}, ...}`.

Defaults are those of transformers 5.23.0, models/gemma4/configuration_gemma4.py and
models/gemma4_unified/configuration_gemma4_unified.py: a key left out of config.json has that value.
Every key must be known (`config_keys.py`): an unknown one could change the network silently.
"Global" layers are those with full attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from g4cli.converters.config_keys import check_keys
from g4cli.converters.json_reader import Reader
from g4cli.converters.media_config import (
    AudioConfig,
    EmbedderConfig,
    VisionConfig,
    audio_config,
    embedder_config,
    vision_config,
)
from g4cli.core.errors import BadCheckpoint

Family = Literal["gemma4", "unified", "assistant"]

# architectures[0] -> family (conversion/gemma.py @ModelBase.register lines, llama.cpp@0c1e57098)
ARCHITECTURES: Final[Mapping[str, Family]] = {
    "Gemma4ForConditionalGeneration": "gemma4",
    "Gemma4ForCausalLM": "gemma4",
    "Gemma4UnifiedForConditionalGeneration": "unified",
    "Gemma4AssistantForCausalLM": "assistant",
    "Gemma4UnifiedAssistantForCausalLM": "assistant",
}

MAX_HEAD: Final = 1 << 16
MAX_LAYERS: Final = 512  # LLAMA_MAX_LAYERS, llama.cpp@0c1e57098, src/llama-hparams.h
SLIDING: Final = "sliding_attention"
FULL: Final = "full_attention"


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The text network. `is_swa[i]`: layer i has sliding-window attention.

    Fields that end in `_full` belong to the global layers.
    """

    n_layer: int
    hidden: int
    n_ff: int
    n_head: int
    n_head_kv: int
    n_head_kv_full: int | None
    head_dim: int
    head_dim_full: int
    n_ctx: int
    n_vocab: int
    is_swa: tuple[bool, ...]
    sliding_window: int
    n_shared_kv: int
    hidden_per_layer: int
    rms_eps: float
    softcap: float | None
    theta_full: float
    theta_swa: float
    partial_full: float
    double_wide: bool
    k_eq_v: bool
    moe: bool
    n_expert: int | None
    n_expert_used: int | None
    n_ff_expert: int | None
    tied: bool

    def head_dim_of(self, layer: int) -> int:
        """Return the size of a head in `layer`."""
        return self.head_dim if self.is_swa[layer] else self.head_dim_full

    def n_head_kv_of(self, layer: int) -> int:
        """Return the number of KV heads in `layer`."""
        full = self.n_head_kv if self.n_head_kv_full is None else self.n_head_kv_full
        return self.n_head_kv if self.is_swa[layer] else full

    def n_ff_of(self, layer: int) -> int:
        """Return the hidden size of the dense feed-forward network in `layer`.

        It is doubled in layers with shared KV if `double_wide` is set.
        """
        return self.n_ff * 2 if self.double_wide and self.is_shared(layer) else self.n_ff

    def is_shared(self, layer: int) -> bool:
        """Return whether `layer` reads the KV cache of an earlier layer."""
        return layer >= self.n_layer - self.n_shared_kv

    def k_is_v(self, layer: int) -> bool:
        """Return whether `layer` has no value projection of its own."""
        return self.k_eq_v and not self.is_swa[layer]


@dataclass(frozen=True, slots=True)
class Config:
    """A checked config.json.

    The unified model (12B) has `embedder` instead of `vision` and `audio`. `backbone` is the hidden
    size of the model that an assistant drafts for.
    """

    family: Family
    text: TextConfig
    vision: VisionConfig | None
    audio: AudioConfig | None
    embedder: EmbedderConfig | None
    backbone: int | None
    raw: Mapping[str, Any]


def read_config(
    raw: Mapping[str, Any], where: str, ignore: frozenset[str] = frozenset(), *, media: bool = True
) -> Config:
    """Return `raw` (a parsed config.json) typed. Raises BadCheckpoint, listing all faults at once.

    `ignore` names unknown keys that the caller knows to be harmless. Without `media` the configs of
    the encoders are not read: a fault in them must not prevent the conversion of the text network.
    """
    family = _read_family(raw, where)
    text = raw.get("text_config", raw if "num_hidden_layers" in raw else None)
    if not isinstance(text, dict):
        raise BadCheckpoint(f"{where}: no text_config")
    faults = check_keys(raw, ignore, media=media)
    reader = Reader(dict(text), faults)
    config = _read_text(reader, family)
    names = ("vision_config", "audio_config")
    raw_vision, raw_audio = (_read_part(raw, name, faults) if media else None for name in names)
    vision, audio, embedder = None, None, None
    if family != "unified":
        vision = None if raw_vision is None else vision_config(raw_vision, faults)
        audio = None if raw_audio is None else audio_config(raw_audio, faults)
    elif raw_vision is not None and raw_audio is not None:
        embedder = embedder_config(raw_vision, raw_audio, faults)
    backbone = None
    if family == "assistant":
        top = Reader(dict(raw), faults)
        backbone = top.read_int(
            "backbone_hidden_size", 1536 if "Unified" not in str(raw["architectures"]) else 3840
        )
    if faults:
        ignorable = any(fault.startswith("unknown key") for fault in faults)
        raise BadCheckpoint(
            f"{where}: " + "; ".join(faults),
            hint="--ignore-key NAME, if the key does not change the network" if ignorable else None,
        )
    return Config(family, config, vision, audio, embedder, backbone, raw)


def _read_family(raw: Mapping[str, Any], where: str) -> Family:
    names = raw.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise BadCheckpoint(
            f"{where}: the architecture is {name!r}; g4 converts {', '.join(ARCHITECTURES)}",
            hint="g4 is for Gemma 4: use llama.cpp's convert_hf_to_gguf.py for other models",
        )
    quantization = raw.get("quantization_config") or raw.get("quantization")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise BadCheckpoint(
            f"{where}: the checkpoint is already quantized ({method or 'quantization_config'})",
            hint="convert the unquantized checkpoint, or the one named -qat-q4_0-unquantized",
        )
    return ARCHITECTURES[name]


def _read_text(read: Reader, family: Family) -> TextConfig:
    # The 12B and its draft model have their own defaults.
    unified = family == "unified" or read.raw.get("model_type") == "gemma4_unified_text"
    n_layer = read.read_int("num_hidden_layers", 30, high=MAX_LAYERS + 1)
    is_swa = _read_layer_types(read, n_layer)
    k_eq_v = read.read_bool("attention_k_eq_v", False)
    head_dim_full, n_head_kv_full = _read_global_layers(read, is_swa, k_eq_v)
    shared_default = n_layer if family == "assistant" else 0
    # An assistant has no KV cache: 0 means all layers (configuration_gemma4_assistant.py).
    n_shared = read.read_int("num_kv_shared_layers", 0, low=0, high=n_layer + 1) or shared_default
    moe = read.read_bool("enable_moe_block", False)
    theta_full, theta_swa, partial = _read_rope(read)
    for key in ("num_experts", "top_k_experts", "moe_intermediate_size") if moe else ():
        if read.raw.get(key) is None:
            read.faults.append(f"enable_moe_block is true, but {key} is missing")
    per_layer = 0 if unified else 256
    softcap = read.raw.get("final_logit_softcapping")
    return TextConfig(
        n_layer=n_layer,
        hidden=read.read_int("hidden_size", 2304),
        n_ff=read.read_int("intermediate_size", 9216),
        n_head=read.read_int("num_attention_heads", 8),
        n_head_kv=read.read_int("num_key_value_heads", 4),
        n_head_kv_full=n_head_kv_full,
        head_dim=read.read_int("head_dim", 256, high=MAX_HEAD),
        head_dim_full=head_dim_full,
        n_ctx=read.read_int("max_position_embeddings", 262_144 if unified else 131_072),
        n_vocab=read.read_int("vocab_size", 262_144),
        is_swa=is_swa,
        sliding_window=read.read_int("sliding_window", 1024 if unified else 512),
        n_shared_kv=n_shared,
        hidden_per_layer=read.read_int("hidden_size_per_layer_input", per_layer, low=0)
        if read.raw.get("hidden_size_per_layer_input", per_layer) is not None
        else 0,
        rms_eps=read.read_float("rms_norm_eps", 1e-6),
        softcap=None if not softcap else read.read_float("final_logit_softcapping", 30.0),
        theta_full=theta_full,
        theta_swa=theta_swa,
        partial_full=partial,
        double_wide=read.read_bool("use_double_wide_mlp", False),
        k_eq_v=k_eq_v,
        moe=moe,
        n_expert=read.read_optional_int("num_experts"),
        n_expert_used=read.read_optional_int("top_k_experts"),
        n_ff_expert=read.read_optional_int("moe_intermediate_size"),
        tied=read.read_bool("tie_word_embeddings", True),
    )


def _read_layer_types(read: Reader, n_layer: int) -> tuple[bool, ...]:
    types = read.raw.get("layer_types")
    if types is None:  # 5:1 by default
        types = [FULL if (i + 1) % 6 == 0 else SLIDING for i in range(n_layer)]
        types[-1] = FULL
    if not isinstance(types, list) or len(types) != n_layer or not set(types) <= {SLIDING, FULL}:
        read.faults.append(
            f"layer_types does not give {SLIDING} or {FULL} for each of {n_layer} layers"
        )
        return (True,) * n_layer
    if types[-1] != FULL:
        read.faults.append(f"the last layer is {types[-1]}; transformers would force it to {FULL}")
    return tuple(kind == SLIDING for kind in types)


def _read_global_layers(
    read: Reader, is_swa: tuple[bool, ...], k_eq_v: bool
) -> tuple[int, int | None]:
    """Return head size and number of KV heads of the global layers, from either spelling."""
    overrides = read.raw.get("per_layer_config")
    if overrides is None:
        heads = read.read_optional_int("num_global_key_value_heads")
        # Used only with attention_k_eq_v (transformers, configuration_gemma4.py, __post_init__).
        return read.read_int("global_head_dim", 512, high=MAX_HEAD), heads if k_eq_v else None
    head_dim, heads = read.read_int("head_dim", 256, high=MAX_HEAD), None
    expected = {i for i, swa in enumerate(is_swa) if not swa}
    if not isinstance(overrides, dict) or {_layer_number(key) for key in overrides} != expected:
        read.faults.append("per_layer_config does not name exactly the full_attention layers")
        return head_dim, None
    values = list(overrides.values())
    if any(value != values[0] for value in values) or not isinstance(values[0], dict):
        read.faults.append("per_layer_config differs between the full_attention layers")
        return head_dim, None
    unknown = sorted(set(values[0]) - {"head_dim", "num_key_value_heads"})
    if unknown:
        read.faults.append(f"per_layer_config has the unknown keys {', '.join(unknown)}")
    inner = Reader(values[0], read.faults)
    return inner.read_int("head_dim", head_dim, high=MAX_HEAD), inner.read_optional_int(
        "num_key_value_heads"
    )


def _layer_number(key: object) -> int:
    # Both "5" and "05" occur.
    return int(key) if isinstance(key, str) and key.isdecimal() else -1


def _read_rope(read: Reader) -> tuple[float, float, float]:
    """Return RoPE's theta of the global and of the sliding layers, and the rotated share.

    The share is that of the global layers; sliding layers rotate all dimensions.
    """
    rope = read.raw.get("rope_parameters")
    if rope is None:
        return 1e6, 1e4, 0.25
    if not isinstance(rope, dict) or not all(
        isinstance(rope.get(kind), dict) for kind in (FULL, SLIDING)
    ):
        read.faults.append(f"rope_parameters needs {FULL} and {SLIDING}")
        return 1e6, 1e4, 0.25
    full, sliding = rope[FULL], rope[SLIDING]
    known = (
        (FULL, full, "proportional", {"rope_type", "rope_theta", "partial_rotary_factor"}),
        (SLIDING, sliding, "default", {"rope_type", "rope_theta"}),
    )
    for name, part, kind, keys in known:
        if part.get("rope_type", kind if part is sliding else None) != kind:
            read.faults.append(
                f"rope_type of {name} is {part.get('rope_type')!r}; only {kind!r} is supported"
            )
        extra = sorted(set(part) - keys)
        if extra and not (
            extra == ["partial_rotary_factor"] and part["partial_rotary_factor"] == 1.0
        ):
            read.faults.append(f"rope_parameters of {name} has the unknown key {', '.join(extra)}")
    outer = sorted(set(rope) - {FULL, SLIDING})
    if outer:
        read.faults.append(f"rope_parameters has the unknown key {', '.join(outer)}")
    top, low = Reader(full, read.faults), Reader(sliding, read.faults)
    if "partial_rotary_factor" not in full:
        read.faults.append(f"rope_parameters of {FULL} has no partial_rotary_factor")
    partial = top.read_float("partial_rotary_factor", 0.25)
    if partial > 1:
        read.faults.append(f"partial_rotary_factor is {partial}, it must be at most 1")
    return top.read_float("rope_theta", 1e6), low.read_float("rope_theta", 1e4), partial


def _read_part(raw: Mapping[str, Any], name: str, faults: list[str]) -> Mapping[str, Any] | None:
    value = raw.get(name)
    if value is None or isinstance(value, dict):
        return value
    faults.append(f"{name} is not an object")
    return None

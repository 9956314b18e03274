"""config.json of every Gemma 4 variant as one typed Config, in both spellings.

Spelling 1 (configs on the hub): `global_head_dim`, `num_global_key_value_heads`.
Spelling 2 (transformers 5.20 and later): `per_layer_config: {"5": {"head_dim": 512, ...}, ...}`.

Defaults are those of transformers 5.23.0, models/gemma4/configuration_gemma4.py and
models/gemma4_unified/configuration_gemma4_unified.py: a key left out of config.json has that value.
Every key must be known (`config_keys.py`): an unknown one could change the network silently.
"Global" layers are those with full attention. A *fault* is a sentence about a wrong value: all are
collected, so that the user sees them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from g4cli.converters.config_keys import check_keys
from g4cli.converters.json_reader import Reader
from g4cli.converters.media_config import (
    MAX_LAYERS,
    AudioConfig,
    EmbedderConfig,
    VisionConfig,
    read_audio_config,
    read_embedder_config,
    read_vision_config,
)
from g4cli.core.errors import BadCheckpoint

Family = Literal["gemma4", "unified", "assistant"]

# architectures[0] -> family (conversion/gemma.py @ModelBase.register lines, llama.cpp@0c1e57098).
# "unified" is the 12B, "assistant" a draft model of any size, "gemma4" every other model.
ARCHITECTURES: Final[Mapping[str, Family]] = {
    "Gemma4ForConditionalGeneration": "gemma4",
    "Gemma4ForCausalLM": "gemma4",
    "Gemma4UnifiedForConditionalGeneration": "unified",
    "Gemma4AssistantForCausalLM": "assistant",
    "Gemma4UnifiedAssistantForCausalLM": "assistant",
}

MAX_HEAD_DIM: Final = 1 << 16  # a choice: Gemma 4's largest head has 512 numbers
SLIDING: Final = "sliding_attention"
FULL: Final = "full_attention"


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The text network, in the names of llama.cpp. `is_swa[i]`: layer i has a sliding window.

    Fields that end in `_full` belong to the global layers. `n_head_kv_full` None: these have
    `n_head_kv` KV heads, as the other layers. `n_ctx` is the longest context that the model was
    trained for, `n_ff` the inner size of the feed-forward networks. The last `n_shared_kv` layers
    read the KV cache of earlier ones. `hidden_per_layer` is the size of a per-layer embedding, 0
    without them. `softcap` None: logits are not bounded. `partial_full` is the share of a head that
    RoPE rotates, `theta` its base. `double_wide`: layers with shared KV have a feed-forward network
    of twice the size. `k_eq_v`: the keys of global layers are their values too. `moe`: the network
    has experts; their numbers are 0 where config.json has none. `tied`: the output matrix is the
    embedding table. `backbone_hidden` is the hidden size of the model that an assistant drafts for,
    0 for other families.
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
    n_expert: int
    n_expert_used: int
    n_ff_expert: int
    tied: bool
    backbone_hidden: int

    def head_dim_of(self, layer: int) -> int:
        """Return the size of a head in `layer`."""
        return self.head_dim if self.is_swa[layer] else self.head_dim_full

    def n_head_kv_of(self, layer: int) -> int:
        """Return the number of KV heads in `layer`."""
        full = self.n_head_kv if self.n_head_kv_full is None else self.n_head_kv_full
        return self.n_head_kv if self.is_swa[layer] else full

    def n_ff_of(self, layer: int) -> int:
        """Return the inner size of the feed-forward network in `layer`, experts aside."""
        return self.n_ff * 2 if self.double_wide and self.is_shared(layer) else self.n_ff

    def is_shared(self, layer: int) -> bool:
        """Return whether `layer` reads the KV cache of an earlier layer."""
        return layer >= self.n_layer - self.n_shared_kv

    def k_is_v(self, layer: int) -> bool:
        """Return whether `layer` has no value projection of its own."""
        return self.k_eq_v and not self.is_swa[layer]


@dataclass(frozen=True, slots=True)
class Config:
    """A checked config.json; `raw` is the parsed file.

    The unified model (12B) has `embedder` instead of `vision` and `audio`.
    """

    family: Family
    text: TextConfig
    vision: VisionConfig | None
    audio: AudioConfig | None
    embedder: EmbedderConfig | None
    raw: Mapping[str, Any]


def read_config(
    raw: Mapping[str, Any], where: str, ignore: frozenset[str] = frozenset(), *, media: bool = True
) -> Config:
    """Return `raw` (a parsed config.json) typed. Raises BadCheckpoint, listing all faults at once.

    `where` names the file in errors, `ignore` unknown keys that the caller knows to be harmless.
    Without `media` the configs of the encoders are not read: a fault in them must not prevent the
    conversion of the text network.
    """
    family = _read_family(raw, where)
    text = raw.get("text_config", raw if "num_hidden_layers" in raw else None)
    if not isinstance(text, dict):
        raise BadCheckpoint(f"{where}: no text_config")
    faults = check_keys(raw, ignore, media=media)
    text_config = _read_text(Reader(text, faults), Reader(raw, faults), family)
    hidden = text_config.hidden
    names = ("vision_config", "audio_config")
    raw_vision, raw_audio = (_read_part(raw, name, faults) if media else None for name in names)
    vision, audio, embedder = None, None, None
    if family != "unified":
        vision = None if raw_vision is None else read_vision_config(raw_vision, hidden, faults)
        audio = None if raw_audio is None else read_audio_config(raw_audio, hidden, faults)
    elif raw_vision is not None and raw_audio is not None:
        embedder = read_embedder_config(raw_vision, raw_audio, hidden, faults)
    if faults:
        ignorable = any(fault.startswith("unknown key") for fault in faults)
        raise BadCheckpoint(
            f"{where}: " + "; ".join(faults),
            hint="--ignore-key NAME, if the key does not change the network" if ignorable else None,
        )
    return Config(family, text_config, vision, audio, embedder, raw)


def _read_family(raw: Mapping[str, Any], where: str) -> Family:
    names = raw.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise BadCheckpoint(
            f"{where}: the architecture is {name!r}; g4 converts {', '.join(ARCHITECTURES)}",
            hint="g4 is for Gemma 4: use llama.cpp's convert_hf_to_gguf.py for other models",
        )
    # transformers' key and MLX's
    quantization = raw.get("quantization_config") or raw.get("quantization")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise BadCheckpoint(
            f"{where}: the checkpoint is already quantized ({method or 'quantization_config'})",
            hint="convert the unquantized checkpoint, or the one named -qat-q4_0-unquantized",
        )
    return ARCHITECTURES[name]


def _read_text(reader: Reader, top: Reader, family: Family) -> TextConfig:
    """Return the text network; `reader` reads its part of config.json, `top` the whole."""
    # The 12B and its draft model have their own defaults.
    unified = family == "unified" or reader.raw.get("model_type") == "gemma4_unified_text"
    n_layer = reader.read_int("num_hidden_layers", 30, high=MAX_LAYERS + 1)
    is_swa = _read_layer_types(reader, n_layer)
    k_eq_v = reader.read_bool("attention_k_eq_v", False)
    head_dim_full, n_head_kv_full = _read_global_layers(reader, is_swa, k_eq_v)
    shared_default = n_layer if family == "assistant" else 0
    # An assistant has no KV cache: 0 means all layers (configuration_gemma4_assistant.py).
    n_shared = reader.read_int("num_kv_shared_layers", 0, low=0, high=n_layer + 1) or shared_default
    moe = reader.read_bool("enable_moe_block", False)
    theta_full, theta_swa, partial_full = _read_rope(reader)
    for key in ("num_experts", "top_k_experts", "moe_intermediate_size") if moe else ():
        if reader.raw.get(key) is None:
            reader.faults.append(f"enable_moe_block is true, but {key} is missing")
    per_layer = 0 if unified else 256
    softcap = reader.raw.get("final_logit_softcapping")
    return TextConfig(
        n_layer=n_layer,
        hidden=reader.read_int("hidden_size", 2304),
        n_ff=reader.read_int("intermediate_size", 9216),
        n_head=reader.read_int("num_attention_heads", 8),
        n_head_kv=reader.read_int("num_key_value_heads", 4),
        n_head_kv_full=n_head_kv_full,
        head_dim=reader.read_int("head_dim", 256, high=MAX_HEAD_DIM),
        head_dim_full=head_dim_full,
        n_ctx=reader.read_int("max_position_embeddings", 262_144 if unified else 131_072),
        n_vocab=reader.read_int("vocab_size", 262_144),
        is_swa=is_swa,
        sliding_window=reader.read_int("sliding_window", 1024 if unified else 512),
        n_shared_kv=n_shared,
        hidden_per_layer=0  # null: the network has no per-layer embeddings
        if reader.raw.get("hidden_size_per_layer_input", per_layer) is None
        else reader.read_int("hidden_size_per_layer_input", per_layer, low=0),
        rms_eps=reader.read_float("rms_norm_eps", 1e-6),
        softcap=None if not softcap else reader.read_float("final_logit_softcapping", 30.0),
        theta_full=theta_full,
        theta_swa=theta_swa,
        partial_full=partial_full,
        double_wide=reader.read_bool("use_double_wide_mlp", False),
        k_eq_v=k_eq_v,
        moe=moe,
        n_expert=reader.read_optional_int("num_experts") or 0,
        n_expert_used=reader.read_optional_int("top_k_experts") or 0,
        n_ff_expert=reader.read_optional_int("moe_intermediate_size") or 0,
        tied=reader.read_bool("tie_word_embeddings", True),
        backbone_hidden=_read_backbone_hidden(top) if family == "assistant" else 0,
    )


def _read_backbone_hidden(top: Reader) -> int:
    # The defaults of Gemma4AssistantConfig and Gemma4UnifiedAssistantConfig: E2B's and the 12B's
    # hidden sizes.
    default = 1536 if "Unified" not in str(top.raw["architectures"]) else 3840
    return top.read_int("backbone_hidden_size", default)


def _read_layer_types(reader: Reader, n_layer: int) -> tuple[bool, ...]:
    """Return for each layer whether it has a sliding window."""
    types = reader.raw.get("layer_types")
    if types is None:  # by default every sixth layer is global
        types = [FULL if (i + 1) % 6 == 0 else SLIDING for i in range(n_layer)]
        types[-1] = FULL
    if (
        not isinstance(types, list)
        or len(types) != n_layer
        or not all(layer_type in (SLIDING, FULL) for layer_type in types)
    ):
        reader.faults.append(
            f"layer_types does not give {SLIDING} or {FULL} for each of {n_layer} layers"
        )
        return (True,) * n_layer
    if types[-1] != FULL:
        reader.faults.append(
            f"the last layer is {types[-1]}; transformers would force it to {FULL}"
        )
    return tuple(layer_type == SLIDING for layer_type in types)


def _read_global_layers(
    reader: Reader, is_swa: tuple[bool, ...], k_eq_v: bool
) -> tuple[int, int | None]:
    """Return head size and number of KV heads of the global layers, from either spelling."""
    overrides = reader.raw.get("per_layer_config")
    if overrides is None:
        heads = reader.read_optional_int("num_global_key_value_heads")
        # Used only with attention_k_eq_v (transformers, configuration_gemma4.py, __post_init__).
        return reader.read_int("global_head_dim", 512, high=MAX_HEAD_DIM), heads if k_eq_v else None
    head_dim, heads = reader.read_int("head_dim", 256, high=MAX_HEAD_DIM), None
    expected = {i for i, swa in enumerate(is_swa) if not swa}
    if not isinstance(overrides, dict) or {_layer_number(key) for key in overrides} != expected:
        reader.faults.append("per_layer_config does not name exactly the full_attention layers")
        return head_dim, None
    values = list(overrides.values())
    if any(value != values[0] for value in values) or not isinstance(values[0], dict):
        reader.faults.append("per_layer_config differs between the full_attention layers")
        return head_dim, None
    unknown = sorted(set(values[0]) - {"head_dim", "num_key_value_heads"})
    if unknown:
        reader.faults.append(f"per_layer_config has the unknown keys {', '.join(unknown)}")
    inner = Reader(values[0], reader.faults)
    return inner.read_int("head_dim", head_dim, high=MAX_HEAD_DIM), inner.read_optional_int(
        "num_key_value_heads"
    )


def _layer_number(key: str) -> int:
    """Return the layer that a key of per_layer_config names ("5" or "05"), -1 if it names none."""
    return int(key) if key.isdecimal() and len(key) <= len(str(MAX_LAYERS)) else -1


# Of RoPE: the base (theta) in global and in sliding layers, and the rotated share of global heads.
# Sliding layers rotate all dimensions of a head.
_ROPE_DEFAULTS: Final = (1e6, 1e4, 0.25)


def _read_rope(reader: Reader) -> tuple[float, float, float]:
    """Return the three numbers of which _ROPE_DEFAULTS has the defaults."""
    rope = reader.raw.get("rope_parameters")
    if rope is None:
        return _ROPE_DEFAULTS
    if not isinstance(rope, dict) or not all(
        isinstance(rope.get(kind), dict) for kind in (FULL, SLIDING)
    ):
        reader.faults.append(f"rope_parameters needs {FULL} and {SLIDING}")
        return _ROPE_DEFAULTS
    full, sliding = rope[FULL], rope[SLIDING]
    # layer type, its parameters, the only rope_type and the keys that it may have; sliding layers
    # may leave out their rope_type
    supported = (
        (FULL, full, "proportional", {"rope_type", "rope_theta", "partial_rotary_factor"}),
        (SLIDING, {"rope_type": "default", **sliding}, "default", {"rope_type", "rope_theta"}),
    )
    for name, part, rope_type, keys in supported:
        if part.get("rope_type") != rope_type:
            reader.faults.append(
                f"rope_type of {name} is {part.get('rope_type')!r}; only {rope_type!r} is supported"
            )
        extra = sorted(set(part) - keys)
        # A factor of 1, which rotates everything, says of sliding layers what holds anyway.
        if extra and not (
            extra == ["partial_rotary_factor"] and part["partial_rotary_factor"] == 1.0
        ):
            reader.faults.append(
                f"rope_parameters of {name} has the unknown key {', '.join(extra)}"
            )
    unknown = sorted(set(rope) - {FULL, SLIDING})
    if unknown:
        reader.faults.append(f"rope_parameters has the unknown key {', '.join(unknown)}")
    if "partial_rotary_factor" not in full:
        reader.faults.append(f"rope_parameters of {FULL} has no partial_rotary_factor")
    theta_full, theta_swa, partial = _ROPE_DEFAULTS
    full_reader = Reader(full, reader.faults)
    partial = full_reader.read_float("partial_rotary_factor", partial)
    if partial > 1:
        reader.faults.append(f"partial_rotary_factor is {partial}, it must be at most 1")
    theta_full = full_reader.read_float("rope_theta", theta_full)
    return theta_full, Reader(sliding, reader.faults).read_float("rope_theta", theta_swa), partial


def _read_part(raw: Mapping[str, Any], name: str, faults: list[str]) -> Mapping[str, Any] | None:
    """Return the object `name` of config.json, None if it is absent or, a fault, no object."""
    value = raw.get(name)
    if value is None or isinstance(value, dict):
        return value
    faults.append(f"{name} is not an object")
    return None

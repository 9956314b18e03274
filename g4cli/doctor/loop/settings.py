"""What the experiments on a loop vary, and how to say it.

A *factor* is one thing that can be changed: the length of the context, the type of the KV cache,
whether tools are declared. Settings give each factor a value; the defaults are those of a short
question, asked greedily on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from g4cli.doctor.known_faults import Condition

CONTEXTS: Final = (200, 1200, 4000)
"""Tokens of text that stand before the question, beside none at all.

A choice: less than the sliding window of any model, more than it (512 or 1024), several times it.
"""

KvType: TypeAlias = Literal["f16", "q8_0", "q4_0"]


class EngineSettings(NamedTuple):
    """Those of LoopSettings with which a worker process opens the model and its context.

    An experiment with others needs another process.
    """

    device: str
    kv_type: KvType
    rotation: bool
    flash_attention: bool
    n_ubatch: int
    drafting: bool


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """The conditions of one experiment.

    `n_context`: tokens of text before the question. `device`: ggml's name of a GPU, "" for the CPU.
    `rotation`: whether llama.cpp rotates keys and values before it quantizes them for the KV cache,
    which makes the error smaller (off: LLAMA_ATTN_ROT_DISABLE). `n_ubatch`: tokens that are
    computed at once. `bos`: whether the prompt begins with the BOS token. `own_format`: whether the
    prompt has the format that is expected: Gemma 4's turns, or what the template of another model
    writes; else the other one of the file's template and plain text. `sampled`: with the
    recommended sampling instead of the most probable token. `drafting`: by prompt lookup.
    """

    n_context: int = 0
    sampled: bool = False
    own_format: bool = True
    bos: bool = True
    thinking: bool = False
    tools: bool = False
    schema: bool = False
    device: str = ""
    flash_attention: bool = True
    kv_type: KvType = "f16"
    rotation: bool = True
    n_ubatch: int = 512
    drafting: bool = False

    @property
    def engine(self) -> EngineSettings:
        """The part that the worker process is started with."""
        return EngineSettings(*(getattr(self, name) for name in EngineSettings._fields))

    def list_changes(self) -> tuple[tuple[str, Any], ...]:
        """Return (factor, value) of every factor that has another value than the default."""
        return tuple(
            (name, value) for name in FACTORS if (value := getattr(self, name)) != DEFAULTS[name]
        )

    def as_json(self) -> dict[str, Any]:
        """Return the value of every factor by name."""
        return {name: getattr(self, name) for name in FACTORS}


FACTORS: Final = tuple(field.name for field in fields(LoopSettings))
DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(
    {field.name: field.default for field in fields(LoopSettings)}
)

# (factor, value) -> what the table of known faults calls it ("": nothing), and how to say it.
_WORDS: Final[Mapping[tuple[str, Any], tuple[Condition | Literal[""], str]]] = MappingProxyType(
    {
        ("n_context", 0): ("", "a short context"),
        ("sampled", False): ("greedy", "temperature 0"),
        ("sampled", True): ("", "recommended sampling"),
        ("own_format", True): ("", "the expected prompt format"),
        ("own_format", False): ("template", "the other prompt format"),
        ("bos", True): ("", "a BOS token"),
        ("bos", False): ("bos-missing", "no BOS token"),
        ("thinking", False): ("thinking-off", "thinking off"),
        ("thinking", True): ("thinking-on", "thinking on"),
        ("tools", False): ("", "no tools declared"),
        ("tools", True): ("tools", "tools declared"),
        ("schema", False): ("", "no JSON schema"),
        ("schema", True): ("schema", "a JSON schema"),
        ("device", ""): ("", "the CPU"),
        ("flash_attention", True): ("flash-attention-on", "flash attention on"),
        ("flash_attention", False): ("flash-attention-off", "flash attention off"),
        ("kv_type", "f16"): ("", "an F16 KV cache"),
        ("kv_type", "q8_0"): ("kv-quantized", "a Q8_0 KV cache"),
        ("kv_type", "q4_0"): ("kv-quantized", "a Q4_0 KV cache"),
        ("rotation", True): ("", "rotation in attention"),
        ("rotation", False): ("rotation-off", "no rotation in attention"),
        ("n_ubatch", 512): ("large-batch", "batches of 512"),
        ("n_ubatch", 32): ("", "batches of 32"),
        ("drafting", False): ("", "no drafting"),
        ("drafting", True): ("drafting", "drafting"),
    }
)


def describe_value(factor: str, value: Any) -> str:
    """Return how to say that `factor` has that value: "a Q4_0 KV cache"."""
    return _find_words(factor, value)[1]


def find_condition(factor: str, value: Any) -> Condition | Literal[""]:
    """Return what the table of known faults calls that value, or ""."""
    return _find_words(factor, value)[0]


def _find_words(factor: str, value: Any) -> tuple[Condition | Literal[""], str]:
    if factor == "n_context" and value:
        return "long-context", f"{value:,} tokens of context"
    if factor == "device" and value:
        return "gpu", f"the GPU {value}"
    return _WORDS[factor, value]


def describe_settings(settings: LoopSettings) -> str:
    """Return how the settings differ from the defaults: "1,200 tokens of context, no BOS token"."""
    changes = settings.list_changes()
    return ", ".join(describe_value(*change) for change in changes) or "a short question"

"""Options of loading, context, sampling, and of the encoder of images and sound.

Plain values without llama.cpp: the process that holds the conversation makes them, and the worker
uses them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from g4cli.core.errors import UsageError

if TYPE_CHECKING:
    from g4cli.core.gguf_header import Header

ALL_LAYERS: Final = -1  # as llama.cpp reads a negative n_gpu_layers
N_BATCH: Final = 2048  # llama.cpp's default, as the next one
N_UBATCH: Final = 512
RANDOM_SEED: Final = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED: another seed each time

IMAGE_TOKENS: Final = (70, 140, 280, 560, 1120)
"""Image token budgets of Gemma 4 (image_processing_gemma4.py, transformers 5.23.0)."""

AUDIO_CHUNK_S: Final = 30
"""Seconds of sound that are encoded at once; llama.cpp splits longer ones."""


def require_image_tokens(n_tokens: int) -> None:
    """Raise UsageError unless `n_tokens` is one of IMAGE_TOKENS."""
    if n_tokens not in IMAGE_TOKENS:
        raise UsageError(
            f"the token budget of an image is one of {', '.join(map(str, IMAGE_TOKENS))}",
            hint="--image-tokens 280",
        )


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How to load a model.

    `device` is a ggml device name. `lazy_ple` "on" reads rows of the per-layer embeddings from the
    disk when they are used, "auto" does so for a table of more than 4 GiB. The first `n_cpu_moe`
    layers keep their experts in host memory. `use_extra_bufts` allows repacking. `vocab_only` loads
    no weights. `workers` are addresses as --rpc takes them (core.worker_address): their devices
    come before those of this machine. `tensor_split`: the proportions in which the offloaded layers
    go to the devices; empty: by their free memory.
    """

    n_gpu_layers: int = ALL_LAYERS
    device: str | None = None
    mmap: bool = True
    lazy_ple: Literal["auto", "on", "off"] = "auto"
    n_cpu_moe: int = 0
    use_extra_bufts: bool = True
    vocab_only: bool = False
    workers: tuple[str, ...] = ()
    tensor_split: tuple[float, ...] = ()


MODEL_DEFAULTS: Final = ModelOptions()


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """The sizes of a context, in tokens, and how it computes.

    `n_threads` 0: see `context.choose_n_threads`.
    `n_ctx` is the size of one conversation; `n_parallel` of them share the memory of the context.
    `n_outputs` is how many tokens of a batch get logits: 1 MiB each with Gemma's vocabulary.
    `flash_attention` None: llama.cpp decides. `use_gpu`: whether a GPU may compute with what is in
    host memory, and holds the KV cache.
    """

    n_ctx: int
    kv_type: str = "f16"
    n_threads: int = 0
    n_batch: int = N_BATCH
    n_ubatch: int = N_UBATCH
    n_outputs: int = 1
    n_parallel: int = 1
    flash_attention: bool | None = None
    use_gpu: bool = True


@dataclass(frozen=True, slots=True)
class MediaOptions:
    """The file of the encoder, and the image token budget (None: as the file says).

    `n_threads` 0: as many as mtmd takes by itself. `cache`: whether encoded files are kept in
    memory for later prompts; otherwise only the newest one is.
    """

    mmproj: Path
    image_tokens: int | None = None
    n_threads: int = 0
    use_gpu: bool = True
    cache: bool = True


@dataclass(frozen=True, slots=True)
class StateOptions:
    """Where states of prompts are saved, and how much they may take.

    `limit_bytes`: on disk; 0: none is written there. `ram_bytes`: in memory, beside the disk.
    `model_id` tells model files apart by their content; `name` is what people call the model.
    """

    folder: Path
    limit_bytes: int
    model_id: str
    name: str
    ram_bytes: int = 0


GrammarScope: TypeAlias = Literal["all", "after-thought", "calls"]
"""What of an answer must belong to a grammar.

all             everything
after-thought   everything but a thought that the answer begins with, if it does
calls           what follows each '<|tool_call>', up to its '<tool_call|>'
"""


@dataclass(frozen=True, slots=True)
class TokenBias:
    """What is added to the logit of a token; minus infinity forbids it."""

    token: int
    bias: float


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters; the defaults are Gemma 4's (generation_config.json). `temp` 0 is greedy.

    The penalties look at the last `repeat_last_n` tokens of the answer (-1: at all of them).
    `ignore_eos`: tokens that end an answer are never sampled.
    """

    temp: float = 1.0
    top_p: float = 0.95
    top_k: int = 64
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    seed: int = RANDOM_SEED
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = 64
    logit_bias: tuple[TokenBias, ...] = ()
    ignore_eos: bool = False


# Keys with which a file recommends values: include/llama.h LLAMA_MODEL_META_KEY_SAMPLING_*,
# src/llama-model.cpp.
_FILE_KEYS: Final = (
    ("temp", "general.sampling.temp", float),
    ("top_p", "general.sampling.top_p", float),
    ("top_k", "general.sampling.top_k", int),
    ("min_p", "general.sampling.min_p", float),
    ("repeat_penalty", "general.sampling.penalty_repeat", float),
)


def choose_sampling(header: Header, **given: Any) -> Sampling:
    """Return the sampling parameters `given`, else what a file recommends, else Gemma's."""
    return Sampling(**{**find_recommended_sampling(header), **given})


def find_recommended_sampling(header: Header) -> dict[str, Any]:
    """Return the sampling parameters that a file recommends, named as the fields of Sampling."""
    recommended: dict[str, Any] = {}
    for field, key, kind in _FILE_KEYS:
        value = header.keys.get(key)
        data: Any = value.data if value else None
        if isinstance(data, bool) or not isinstance(data, (int, float)):
            continue
        # NaN fails all comparisons; a penalty of 0 would be divided by.
        if 0 <= data < math.inf and (data or field != "repeat_penalty"):
            recommended[field] = kind(data)
    return recommended

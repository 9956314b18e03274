"""The options of a run that decide its memory, and which of them llama.cpp refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from g4cli.core.draft import DraftShape
from g4cli.core.errors import BadFile, UsageError
from g4cli.core.ggml import F16, GGMLType, ggml_type
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.shape import Shape
from g4cli.estimate.media import Media

# Source: kv_cache_types in common/arg.cpp, llama.cpp@0c1e57098.
KV_TYPES: Final = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

MAX_SEQ: Final = 256
"""LLAMA_MAX_SEQ, src/llama-cparams.h."""

MAX_EXPERTS: Final = 1024
"""LLAMA_MAX_EXPERTS, src/llama-hparams.h."""

CTX_PAD: Final = 256
"""llama.cpp rounds the cells of full and sliding-window caches up to a multiple of this."""

N_DRAFT: Final = 3
"""Tokens that `g4 chat` drafts in a round of speculative decoding.

With the token before them they make a batch of 4. The CPU's matrix kernels process four rows at
once, so that fewer would cost as much; from 8 on, their results differ from those of single tokens
in the last bits.
"""
MIN_DRAFTING_BYTES: Final = 64 << 20
"""Bytes of weights from which on `--draft auto` uses prompt lookup.

Smaller models stay in the CPU's caches: there, a batch of four tokens takes four times as long as
one token, and drafting gains nothing.
"""


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft model; the defaults are those of `g4 chat --draft`.

    `n_ubatch` is the ubatch of the draft model's own context, `n_outputs` the rows of logits that
    it computes.
    """

    shape: DraftShape
    tensors: tuple[TensorSpec, ...] = ()
    n_ubatch: int = 1
    n_outputs: int = 1


@dataclass(frozen=True, slots=True)
class Options:
    """Settings with the defaults of `g4 chat`. Counts are tokens.

    - `n_outputs` is llama.cpp's n_outputs_max: the most rows of logits of one ubatch (0: as many as
      the batch).
    - `lazy_ple` leaves the table of the per-layer embeddings on the disk.
    - `n_gpu_layers` is the number of layers to offload, counted from the last; the output matrix is
      one more; -1 means all. `n_cpu_moe` keeps the experts of the first layers in host memory.
      `tensor_split` are the parts of the offloaded layers that each GPU or worker gets, in any
      unit. The planner (g4cli.fit) chooses the first; it replaces `n_cpu_moe` if that is 0, and
      `tensor_split` if it is empty. With `fixed_layout` it keeps the first two.
    - `repack` names the types that llama.cpp repacks for this CPU (weights.repacked_types).
    - `media` is the memory of the encoder of images and audio (media.media_bytes).
    - `n_draft` tokens are drafted in a round of speculative decoding (0: none); the model computes
      as many more rows of logits. `draft` is the draft model, None for prompt lookup.
    - `unlisted_weight_bytes` is the size of the weights minus that of the tensors given to the
      estimator, where only the size of a file is known. It may be negative.
    - `n_checkpoints` is how many states of the sliding window a chat keeps, to return to earlier
      turns.
    """

    n_ctx: int
    n_batch: int = 2048
    n_ubatch: int = 512
    n_seq: int = 1
    n_outputs: int = 1
    kv_unified: bool = False
    type_k: GGMLType = F16
    type_v: GGMLType = F16
    flash_attn: bool = True
    swa_full: bool = False
    mmap: bool = True
    repack: frozenset[str] = frozenset()
    lazy_ple: bool = False
    n_gpu_layers: int = 0
    tensor_split: tuple[float, ...] = ()
    n_cpu_moe: int = 0
    fixed_layout: bool = False
    n_checkpoints: int = 1
    media: Media | None = None
    n_draft: int = 0
    draft: Draft | None = None
    unlisted_weight_bytes: int = 0

    @property
    def batch(self) -> int:
        """Tokens of a batch: llama.cpp limits it to the context."""
        return min(self.n_ctx, self.n_batch)

    @property
    def ubatch(self) -> int:
        """Tokens of a ubatch: llama.cpp limits it to the batch; n_ubatch 0 means as many."""
        return min(self.batch, self.n_ubatch or self.n_batch)

    @property
    def outputs(self) -> int:
        """Rows of logits for which the compute buffer has room."""
        rows = max(self.n_outputs, self.n_seq, self.n_draft + 1) if self.n_outputs else self.batch
        return min(self.ubatch, rows)

    def select_graph_options(self) -> Options:
        """Return the options that decide the graph of a ubatch, with the defaults for all others.

        Runs that differ only in the others need the same compute buffer, so these are the key of
        the cache of its sizes.
        """
        return Options(
            n_ctx=self.n_ctx,
            n_batch=self.n_batch,
            n_ubatch=self.n_ubatch,
            n_seq=self.n_seq,
            n_outputs=self.outputs,
            kv_unified=self.kv_unified,
            type_k=self.type_k,
            type_v=self.type_v,
            flash_attn=self.flash_attn,
            swa_full=self.swa_full,
        )


def kv_type(name: str) -> GGMLType:
    """Return the KV cache type called `name`.

    Raises UsageError naming those that llama.cpp accepts.
    """
    if name.lower() not in KV_TYPES:
        raise UsageError(f"unknown KV cache type {name!r}", hint=f"one of: {' '.join(KV_TYPES)}")
    return ggml_type(name)


def check_options(shape: Shape, options: Options) -> None:
    """Raise UsageError for options that llama.cpp refuses, or silently replaces by others.

    A context beyond the training is none of them: llama.cpp warns of it, and so does `g4 chat`
    (operations/chat/plan.py). `g4 fit`, whose plans are advice, refuses it
    (operations/fit/answer.py).

    Raises BadFile for a shape that llama.cpp refuses. Source: llama_init_from_model and the
    constructor of llama_context, src/llama-context.cpp, llama.cpp@0c1e57098.
    """
    if shape.n_expert > MAX_EXPERTS or shape.n_expert_used > shape.n_expert:
        raise BadFile(
            f"{shape.n_expert_used} of {shape.n_expert} experts; "
            f"llama.cpp supports at most {MAX_EXPERTS}",
            hint="g4 doctor FILE",
        )
    if options.n_ctx < 1:
        raise UsageError(f"a context of {options.n_ctx} tokens is too small", hint="--ctx 4096")
    if options.n_ubatch < 0 or options.n_batch < 1 or options.n_seq < 1:
        raise UsageError(
            "batch sizes and numbers of sequences must be 1 or more", hint="--ubatch 512"
        )
    if options.n_seq > MAX_SEQ:
        raise UsageError(
            f"{options.n_seq} sequences; llama.cpp supports at most {MAX_SEQ}", hint="--sequences 1"
        )
    if options.type_v.is_quantized and not options.flash_attn:
        raise UsageError(
            f"a {options.type_v.name.lower()} V cache needs flash attention",
            hint="omit --no-flash-attn, or use --kv-type f16",
        )
    for kind in (options.type_k, options.type_v):
        widths = {shape.head_dim_of(i) for i in range(shape.n_layer_kv)}
        if any(width % kind.block_size for width in widths):
            raise UsageError(
                f"heads of {min(widths)} values do not divide into "
                f"{kind.name} blocks of {kind.block_size}",
                hint="--kv-type f16",
            )

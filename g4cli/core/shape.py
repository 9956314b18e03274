"""The shape of a Gemma 4 network: the numbers that memory and speed depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from g4cli.core.errors import BadGGUF
from g4cli.core.file_kind import TEXT, kind_of, not_a_text_model
from g4cli.core.gguf_header import Header
from g4cli.core.gguf_values import Array, find_data
from g4cli.core.units import count_text

LAYER_LIMITS: Final = (1, 512)  # LLAMA_MAX_LAYERS
MAX_TRAINED_CONTEXT: Final = 262_144
"""The longest context of a published Gemma 4 (12B, 26B, 31B): none was trained for more."""
CONTEXT_LIMIT: Final = 8 * MAX_TRAINED_CONTEXT
"""A choice: a larger one is a typing error, for which llama.cpp would take all memory there is."""
TOKENIZER: Final = "gemma4"
# Limits of numbers that llama.cpp keeps in an int32.
_POSITIVE: Final = (1, 2**31 - 1)
_COUNT: Final = (0, 2**31 - 1)


@dataclass(frozen=True, slots=True)
class LayersShape:
    """What a text network and its draft model both have, in llama.cpp's names.

    Per-layer tuples have `n_layer` items; `is_swa[i]` is True for a sliding-window layer. Names
    that end in `_swa` belong to those layers.
    """

    n_layer: int
    n_embd: int
    n_vocab: int
    n_head: tuple[int, ...]
    n_ff: tuple[int, ...]
    is_swa: tuple[bool, ...]
    head_dim: int
    head_dim_swa: int

    def head_dim_of(self, layer: int) -> int:
        """Return the head size of `layer`."""
        return self.head_dim_swa if self.is_swa[layer] else self.head_dim


@dataclass(frozen=True, slots=True)
class Shape(LayersShape):
    """The shape of a text network, in llama.cpp's names.

    A window has `n_swa` tokens. The last `n_shared_kv` layers have shared KV. `k_eq_v`:
    full-attention layers use K as V.
    """

    n_ctx_train: int
    n_head_kv: tuple[int, ...]
    n_swa: int
    n_shared_kv: int = 0
    n_embd_per_layer: int = 0
    n_expert: int = 0
    n_expert_used: int = 0
    n_ff_expert: int = 0
    k_eq_v: bool = False

    @property
    def n_layer_kv(self) -> int:
        """The number of layers with a KV cache of their own; the others read an earlier layer's."""
        return self.n_layer - self.n_shared_kv

    def kv_width(self, layer: int) -> int:
        """Return the elements of one K (or V) row of `layer`."""
        return self.n_head_kv[layer] * self.head_dim_of(layer)


def shape_of(header: Header) -> Shape:
    """Return the shape that `header` declares.

    Raises BadGGUF for another architecture, a missing key or a number out of range: no product of
    checked numbers overflows or divides by zero. Keys and their defaults: src/models/gemma4.cpp
    load_arch_hparams, llama.cpp@0c1e57098.
    """
    if kind_of(header) not in ("text-model", "vocabulary"):
        raise not_a_text_model(header)
    keys = Keys(header, TEXT, "a Gemma 4 text network")
    n_layer = keys.read_number("block_count", LAYER_LIMITS, what="layers")
    head_dim = keys.read_number("attention.key_length")
    head_dim_swa = keys.read_number("attention.key_length_swa", default=head_dim)
    # llama.cpp loops without end over 0 rotated dimensions, and cannot rotate more than a head has.
    keys.read_number("rope.dimension_count", (1, head_dim), default=head_dim)
    keys.read_number("rope.dimension_count_swa", (1, head_dim_swa), default=head_dim_swa)
    n_expert = keys.read_number("expert_count", _COUNT, default=0)
    return Shape(
        n_layer=n_layer,
        n_embd=keys.read_number("embedding_length"),
        n_vocab=_vocabulary_size(header),
        n_ctx_train=min(keys.read_number("context_length"), MAX_TRAINED_CONTEXT),
        n_head=keys.read_per_layer("attention.head_count", n_layer),
        n_head_kv=keys.read_per_layer("attention.head_count_kv", n_layer),
        n_ff=keys.read_per_layer("feed_forward_length", n_layer),
        is_swa=tuple(map(bool, keys.read_per_layer("attention.sliding_window_pattern", n_layer))),
        head_dim=head_dim,
        head_dim_swa=head_dim_swa,
        n_swa=keys.read_number("attention.sliding_window"),
        n_shared_kv=keys.read_number("attention.shared_kv_layers", (0, n_layer), default=0),
        n_embd_per_layer=keys.read_number("embedding_length_per_layer_input", _COUNT, default=0),
        n_expert=n_expert,
        n_expert_used=keys.read_number("expert_used_count", (0, n_expert), default=0),
        # One number in published files; of an array the largest is safe for an estimate.
        n_ff_expert=max(keys.read_per_layer("expert_feed_forward_length", n_layer, default=0)),
        # Full-attention layers without V use K as V; the first layer is a sliding-window one.
        k_eq_v="blk.0.attn_v.weight" in header.tensors
        and any(
            f"blk.{i}.attn_k.weight" in header.tensors
            and f"blk.{i}.attn_v.weight" not in header.tensors
            for i in range(n_layer)
        ),
    )


def require_tokenizer(header: Header) -> None:
    """Raise BadGGUF unless the tokenizer is Gemma 4's: llama.cpp hangs or crashes with others."""
    name = header.get("tokenizer.ggml.model", str, "")
    if name != TOKENIZER:
        raise BadGGUF(
            header.path,
            f"the tokenizer is {name[:40]!r}, a Gemma 4 model has {TOKENIZER!r}"
            if name
            else "there is no tokenizer in the file",
            offset=header.key_offsets.get("tokenizer.ggml.model"),
            field="tokenizer.ggml.model",
        )


def capped_context(header: Header) -> int:
    """Return the context that the file claims if it is longer than Gemma 4 has, else 0."""
    claimed = header.get(f"{header.architecture}.context_length", int, 0)
    return claimed if claimed > MAX_TRAINED_CONTEXT else 0


class Keys:
    """The keys of one architecture, `ARCHITECTURE.KEY`, checked as they are read.

    Raises BadGGUF if the header is of another architecture; `what` describes a file of this one.
    """

    def __init__(self, header: Header, architecture: str, what: str) -> None:
        self._header, self._arch = header, architecture
        if header.architecture != architecture:
            raise BadGGUF(
                header.path,
                f"architecture {header.architecture!r} is not {what}",
                field="general.architecture",
                hint=f"known: {architecture}",
            )

    def read_number(
        self,
        key: str,
        limits: tuple[int, int] = _POSITIVE,
        *,
        default: int | None = None,
        what: str = "",
    ) -> int:
        """Return the number under `key`, which must be within `limits`.

        Raises BadGGUF if it is absent without a `default`, or out of range; `what` says in the
        message what the number counts.
        """
        value = int(self._header.get(f"{self._arch}.{key}", int, default))
        return self._check_range(key, value, limits, what)

    def read_per_layer(
        self, key: str, n_layer: int, *, default: int | None = None
    ) -> tuple[int, ...]:
        """Return `n_layer` numbers: the first of an array, or one number for all layers."""
        value = self._header.get(f"{self._arch}.{key}", object, default)
        items = value.first_items(n_layer) if isinstance(value, Array) else [value] * n_layer
        if not all(isinstance(item, int) for item in items):
            raise self._key_error(
                key, f"is {self._header.keys[f'{self._arch}.{key}'].type_name}, expected numbers"
            )
        if len(items) < n_layer:
            raise self._key_error(key, f"{count_text(len(items), 'item')} for {n_layer} layers")
        return tuple(self._check_range(key, item, _COUNT) for item in items)

    def _check_range(self, key: str, value: int, limits: tuple[int, int], what: str = "") -> int:
        low, high = limits
        if not low <= value <= high:
            raise self._key_error(key, f"{value} {what or 'is'} out of range ({low} to {high})")
        return value

    def _key_error(self, key: str, what: str) -> BadGGUF:
        name = f"{self._arch}.{key}"
        return BadGGUF(
            self._header.path, what, offset=self._header.key_offsets.get(name), field=name
        )


def _vocabulary_size(header: Header) -> int:
    embedding = header.tensors.get("token_embd.weight")
    if embedding and len(embedding.shape) > 1:
        return embedding.shape[1]
    return len(find_data(header.keys, "tokenizer.ggml.tokens", Array) or ())

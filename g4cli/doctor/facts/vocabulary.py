"""Read what a header says about its tokens, and hash them to compare with a known vocabulary."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from g4cli.core.file_kind import text_key
from g4cli.core.gguf_header import Header
from g4cli.core.gguf_values import Array, Value, find_data
from g4cli.doctor.reference import TOKENIZER

# Tokens whose texts are kept. All of Gemma 4's control tokens have smaller ids.
_N_FIRST: Final = 320


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the header says about its tokens; counts are -1 where an array is absent.

    `model` and `pre` name the tokenizer and its pre-tokenizer, "" if the keys are absent.
    `first_texts` holds the texts of the first 320 tokens, `types` the types of all; `type_counts`
    pairs each type with the number of tokens that have it.
    """

    model: str
    pre: str
    n_tokens: int
    n_scores: int
    n_types: int
    n_merges: int
    first_texts: tuple[str, ...]
    types: tuple[int, ...]
    type_counts: tuple[tuple[int, int], ...]


def find_array(keys: Mapping[str, Value], name: str) -> Array | None:
    """Return the array under `tokenizer.ggml.NAME`, None if there is none."""
    return find_data(keys, TOKENIZER + name, Array)


def read_vocabulary(header: Header) -> Vocabulary | None:
    """Return the facts about the tokens, or None for a file without a tokenizer."""

    def count_items(name: str) -> int:
        items = find_array(header.keys, name)
        return len(items) if items is not None else -1

    tokens, type_array = find_array(header.keys, "tokens"), find_array(header.keys, "token_type")
    if tokens is None and TOKENIZER + "model" not in header.keys:
        return None
    first_texts: tuple[str, ...] = ()
    if tokens is not None and tokens.item_type.name == "STRING":
        texts = islice(tokens.byte_strings(), _N_FIRST)
        first_texts = tuple(text.decode("utf-8", "replace") for text in texts)
    types: tuple[int, ...] = ()
    if type_array is not None and type_array.item_type.name in ("INT32", "UINT32"):
        types = tuple(type_array.tolist())
    return Vocabulary(
        model=text_key(header, TOKENIZER + "model"),
        pre=text_key(header, TOKENIZER + "pre"),
        n_tokens=count_items("tokens"),
        n_scores=count_items("scores"),
        n_types=count_items("token_type"),
        n_merges=count_items("merges"),
        first_texts=first_texts,
        types=types,
        type_counts=tuple(sorted(Counter(types).items())),
    )


def hash_array(keys: Mapping[str, Value], name: str) -> str:
    """Return the sha256 of the array `tokenizer.ggml.NAME` as stored, of no bytes without one."""
    items = find_array(keys, name)
    return hashlib.sha256(items.read_bytes() if items is not None else b"").hexdigest()

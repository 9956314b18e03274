"""Which saved states a context may use, and the names of prefixes of tokens."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

_DIGEST_BYTES: Final = 16  # 128 bits distinguish the prefixes of one machine
TOKEN_BYTES: Final = 4  # llama_token is an int32


def make_namespace(parts: Sequence[object]) -> str:
    """Return the name of the folder for all states that agree in `parts`, 32 hexadecimal digits.

    `parts` is whatever changes the bytes of a state, or their meaning: model, KV type, build.
    """
    text = json.dumps(list(parts), separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def pack_tokens(tokens: Sequence[int]) -> bytes:
    """Return token ids as 4 bytes each, as `iter_prefix_digests` takes them."""
    return array("i", tokens).tobytes()


def digest_prefix(packed: bytes | memoryview) -> str:
    """Return the digest of the tokens in `packed`, 32 hexadecimal digits."""
    return hashlib.blake2b(packed, digest_size=_DIGEST_BYTES).hexdigest()


def iter_prefix_digests(packed: bytes, lengths: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Yield each of `lengths` (in tokens) with the digest of as many tokens, in ascending order.

    Lengths beyond the end of `packed` are left out. The tokens are hashed once for all lengths.
    """
    digest, done = hashlib.blake2b(digest_size=_DIGEST_BYTES), 0
    view = memoryview(packed)
    for length in sorted(set(lengths)):
        if length * TOKEN_BYTES > len(packed):
            return
        digest.update(view[done * TOKEN_BYTES : length * TOKEN_BYTES])
        done = length
        yield length, digest.hexdigest()

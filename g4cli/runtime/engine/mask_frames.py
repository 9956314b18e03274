"""What the worker and the process with the grammars say to each other.

Both directions carry frames: 4 bytes length of the payload, 4 bytes number of the grammar, 1 byte
kind (little-endian). Each answer with a grammar gets the next number, from 1 on.

Requests: VOCABULARY (once, with number 0), GRAMMAR (llguidance's JSON), TOKENS (4 bytes each: the
answer goes on with them), TOKENS_AHEAD (the same, and bytes are looked for that follow in any case,
as for GRAMMAR and RESET), RESET (the next token begins the grammar again, as that of the arguments
of a tool does for each call of an answer), DROP (the answer has ended).

All but VOCABULARY and DROP are answered by a MASK (one bit a token, lowest bit first, in whole
32-bit words), or by an ERROR (text). Behind the mask are the bytes that are known to follow in any
case: to TOKENS, those left of what an earlier request looked for.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import Final

HEADER: Final = struct.Struct("<IIc")
VOCABULARY: Final = b"V"
GRAMMAR: Final = b"G"
TOKENS: Final = b"T"
TOKENS_AHEAD: Final = b"A"
RESET: Final = b"R"
DROP: Final = b"D"
MASK: Final = b"M"
ERROR: Final = b"E"

COUNTS: Final = struct.Struct("<III")
"""How a vocabulary begins: its tokens, the control tokens, and the tokens that end an answer."""


def mask_bytes(n_vocab: int) -> int:
    """Return the size of a mask."""
    return (n_vocab + 31) // 32 * 4


def pack_vocabulary(pieces: Sequence[bytes], controls: Sequence[int], ends: Sequence[int]) -> bytes:
    """Return the payload of VOCABULARY: the bytes of all tokens, the control tokens among them, and
    those that end an answer.

    Counts, ids and lengths are 32-bit integers; the bytes of the tokens come last.
    """
    head = COUNTS.pack(len(pieces), len(controls), len(ends))
    ids = array("I", [*controls, *ends])
    return b"".join((head, ids.tobytes(), array("I", map(len, pieces)).tobytes(), *pieces))

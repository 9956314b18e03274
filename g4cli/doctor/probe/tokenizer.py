"""Ask llama.cpp to tokenize known texts with a file's tokenizer, without loading its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.doctor.probe.child import ask_child
from g4cli.doctor.reference import N_TOKENS

_TIMEOUT_S: Final = 60.0  # a choice: no weights are loaded, so it takes seconds
# For the published vocabulary: lines [text, ids without <bos>]. The first four are turns and line
# breaks, which llama.cpp tokenized wrongly when Gemma 4 was new; the others are those of
# models/ggml-vocab-gemma-4.gguf.inp and .out, llama.cpp@0c1e57098.
_KNOWN_TEXTS: Final = Path(__file__).resolve().parents[2] / "data/tokenizer/known_texts.jsonl"
# For any vocabulary of Gemma 4, that of `tiny` included: control tokens have these ids, ...
CONTROL_TEXTS: Final = (
    ("<|turn>", (105,)),
    ("<turn|>", (106,)),
    ("<bos>", (2,)),
)
# ... and detokenizing gives back the text.
ROUND_TRIPS: Final = (
    "Hello, world!",
    "a  b\n\nc",
    "x = [1, 2];\n\ty += 0.5",
    "naïve café ☕",
    "</s> is text",
)
# Token ids, and whether these tokens end generation: <turn|>, <eos>, a newline.
ENDS: Final = ((106, True), (1, True), (107, False))
# The same in the published vocabulary: </s> is text, <|tool_response> ends the turn.
ENDS_PUBLISHED: Final = ((212, False), (50, True))


@dataclass(frozen=True, slots=True)
class TokenizerAnswers:
    """What llama.cpp makes of known texts, or why it failed (`failure`).

    `encoded` holds (text, ids, expected ids), `round_trips` (text, detokenized text), `ends`
    (token, whether it ends generation, expected).
    """

    encoded: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    round_trips: tuple[tuple[str, str], ...] = ()
    ends: tuple[tuple[int, bool, bool], ...] = ()
    failure: str = ""


def known_texts(n_tokens: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return texts with their ids in a vocabulary of `n_tokens`: 53 texts for the published one."""
    if n_tokens != N_TOKENS:
        return CONTROL_TEXTS
    rows = map(json.loads, _KNOWN_TEXTS.read_text(encoding="utf-8").splitlines())
    return (*CONTROL_TEXTS, *((text, tuple(ids)) for text, ids in rows))


def ask_tokenizer(path: Path, n_tokens: int) -> TokenizerAnswers:
    """Return what llama.cpp makes of known texts with a tokenizer of `n_tokens` tokens."""
    known = known_texts(n_tokens)
    ends = (*ENDS, *(ENDS_PUBLISHED if n_tokens == N_TOKENS else ()))
    answer = ask_child(
        {
            "task": "tokenize",
            "path": str(path.absolute()),
            "texts": [text for text, _ in known],
            "round_trips": list(ROUND_TRIPS),
            "tokens": [token for token, _ in ends],
        },
        _TIMEOUT_S,
    )
    event = answer.find_event("tokenized")
    if event is None:
        return TokenizerAnswers(failure=answer.failure)
    return TokenizerAnswers(
        tuple(
            (text, tuple(ids), want) for (text, want), ids in zip(known, event["ids"], strict=True)
        ),
        tuple(zip(ROUND_TRIPS, event["round_trips"], strict=True)),
        tuple((token, got, want) for (token, want), got in zip(ends, event["ends"], strict=True)),
    )

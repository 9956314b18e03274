"""Ask llama.cpp to tokenize texts with a file's vocabulary, without loading its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
_ENDS: Final = ((106, True), (1, True), (107, False))
# The same in the published vocabulary: </s> is text, <|tool_response> ends the turn.
_ENDS_PUBLISHED: Final = ((212, False), (50, True))


@dataclass(frozen=True, slots=True)
class TokenizerAnswers:
    """What llama.cpp makes of a file's vocabulary, or why it failed (`failure`, `code`).

    `encoded` holds (text, ids), `round_trips` (text, detokenized text), `ends` the tokens that end
    an answer, (id, text). `adds_bos` is whether programs put the token `bos` in front of a text.
    """

    encoded: tuple[tuple[str, tuple[int, ...]], ...] = ()
    round_trips: tuple[tuple[str, str], ...] = ()
    ends: tuple[tuple[int, str], ...] = ()
    bos: str = ""
    adds_bos: bool = False
    failure: str = ""
    code: str = ""


def known_texts(n_tokens: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return texts with their ids in a Gemma 4 vocabulary: 53 texts for the published one."""
    if n_tokens != N_TOKENS:
        return CONTROL_TEXTS
    rows = map(json.loads, _KNOWN_TEXTS.read_text(encoding="utf-8").splitlines())
    return (*CONTROL_TEXTS, *((text, tuple(ids)) for text, ids in rows))


def known_ends(n_tokens: int) -> tuple[tuple[int, bool], ...]:
    """Return tokens of a Gemma 4 vocabulary, and whether they end generation."""
    return (*_ENDS, *(_ENDS_PUBLISHED if n_tokens == N_TOKENS else ()))


def ask_tokenizer(path: Path, texts: Sequence[str]) -> TokenizerAnswers:
    """Return what llama.cpp makes of `texts` and of ROUND_TRIPS with the vocabulary of the file."""
    request = {
        "task": "describe",
        "path": str(path.absolute()),
        "texts": list(texts),
        "round_trips": list(ROUND_TRIPS),
    }
    answer = ask_child(request, _TIMEOUT_S)
    event = answer.find_event("described")
    if event is None:
        return TokenizerAnswers(failure=answer.failure, code=answer.error_code)
    return TokenizerAnswers(
        tuple((text, tuple(ids)) for text, ids in zip(texts, event["ids"], strict=True)),
        tuple(zip(ROUND_TRIPS, event["round_trips"], strict=True)),
        tuple((int(token), str(text)) for token, text in event["ends"]),
        str(event["bos"]),
        bool(event["adds_bos"]),
    )

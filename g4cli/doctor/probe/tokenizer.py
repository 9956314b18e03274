"""Let llama.cpp cut known texts with the file's tokenizer: in a child process, without the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.doctor.probe.child import ProbeResult, ask_child
from g4cli.doctor.probe.golden_tokens import GOLDEN

N_GEMMA: Final = 262_144
_TIMEOUT_S: Final = 60.0
# Chat marks and the traps of the first weeks, for the published vocabulary (llama.cpp@0c1e57098).
_CHAT: Final = (
    ("---\n", (7243, 107)),
    ("a\n\nb", (236746, 108, 236763)),
    ("Hello\n\n\nworld", (9259, 109, 12392)),
    ("<|turn>user\nHi<turn|>\n<|turn>model\n", (105, 2364, 107, 10979, 106, 107, 105, 4368, 107)),
)
# Texts for any vocabulary of Gemma 4's make: the control tokens keep their ids, ...
CONTROL_TEXTS: Final = (
    ("<|turn>", (105,)),
    ("<turn|>", (106,)),
    ("<bos>", (2,)),
)
# ... and what goes in comes out.
ROUND_TRIPS: Final = (
    "Hello, world!",
    "a  b\n\nc",
    "x = [1, 2];\n\ty += 0.5",
    "naïve café ☕",
    "</s> is text",
)
# token, ends an answer
ENDS: Final = ((106, True), (1, True), (107, False))
# Tokens of the published vocabulary: </s> is text, a tool's answer ends the turn.
ENDS_GEMMA: Final = ((212, False), (50, True))


@dataclass(frozen=True, slots=True)
class Tokenized:
    """What llama.cpp makes of known texts: (text, ids, expected), (text, text), (token, ends, expected)."""

    encoded: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    round_trips: tuple[tuple[str, str], ...] = ()
    ends: tuple[tuple[int, bool, bool], ...] = ()
    died: str = ""
    error: str = ""


def known_texts(n_tokens: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return texts and their ids for a vocabulary of `n_tokens`: 53 of them for the published one."""
    if n_tokens != N_GEMMA:
        return CONTROL_TEXTS
    golden = tuple((text, tuple(int(i) for i in ids.split())) for text, ids in GOLDEN)
    return (*CONTROL_TEXTS, *_CHAT, *golden)


def tokenize(path: Path, n_tokens: int) -> Tokenized:
    """Return what llama.cpp makes of known texts with the file's tokenizer, loaded without its weights."""
    known = known_texts(n_tokens)
    ends = (*ENDS, *(ENDS_GEMMA if n_tokens == N_GEMMA else ()))
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
    said = answer.event("tokenized")
    if said is None:
        died = ProbeResult(
            (), answer.exit_code, answer.timed_out, over_limit=answer.over_limit
        ).died
        return Tokenized(died=died, error=answer.error or "no answer")
    return Tokenized(
        tuple(
            (text, tuple(ids), want) for (text, want), ids in zip(known, said["ids"], strict=True)
        ),
        tuple(zip(ROUND_TRIPS, said["round_trips"], strict=True)),
        tuple((token, got, want) for (token, want), got in zip(ends, said["ends"], strict=True)),
    )

"""Rules and figures of speculative decoding that need no llama.cpp: they are read from the files' headers.

`speculation` guesses by them in the worker process; the process that holds the conversation plans with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from g4cli.core.inventory import PER_LAYER_TOKEN_EMBD as _TABLE  # only looked up, never multiplied

if TYPE_CHECKING:
    from g4cli.core.gguf_header import Header

N_GUESSES: Final = 3
"""Guesses a round. With the token before them they make a batch of 4: the CPU's matrix kernels take rows by
four, so that 2 or 3 cost as much, and 8 differ from single tokens in their last bits."""
N_OUTPUTS: Final = N_GUESSES + 1
SMALLEST_BYTES: Final = 64 << 20
"""Weights below which four tokens cost four times one: they lie in the CPU's caches anyway."""

ARCHITECTURE: Final = "gemma4-assistant"
# The drafter attends to the model's cells with heads of the model's width.
_SAME: Final = ("attention.key_length", "attention.key_length_swa", "attention.sliding_window")

Exactness: TypeAlias = Literal["by comparison", "impossible", "not asked for"]
"""How greedy answers stay what they are without guesses: "impossible" in networks with float matrices."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Where guesses come from; `path` is the network's file, `exactness` what temperature 0 asks of them."""

    kind: Literal["off", "lookup", "network"]
    exactness: Exactness
    path: Path | None = None

    @property
    def n_outputs(self) -> int:
        """Return how many tokens of a batch need scores."""
        return 1 if self.kind == "off" else N_OUTPUTS

    @property
    def wish(self) -> str:
        """Return the value of `--draft` that names it: what the plan of memory is asked with."""
        return str(self.path) if self.path else self.kind


@dataclass(slots=True)
class Drafted:
    """What became of the guesses of an answer: how many there were, how many the model agreed with.

    `stopped_at`: from so many tokens on nothing is guessed at temperature 0, because the scores would differ.
    """

    guessed: int = 0
    kept: int = 0
    stopped_at: int | None = None


def mismatch(drafter: Header, model: Header) -> str | None:
    """Return why `drafter` was not made for `model`, or None: llama.cpp would abort, or draft nonsense.

    Raises BadGGUF if a key is missing.
    """
    name = Path(drafter.path).name
    if drafter.architecture != ARCHITECTURE:
        return f"{name} is a {drafter.architecture} file, not a drafting network ({ARCHITECTURE})"
    for own, other in (
        ("embedding_length_out", "embedding_length"),
        *((key, key) for key in _SAME),
    ):
        ours = drafter.get(f"{ARCHITECTURE}.{own}", int)
        theirs = model.get(f"{model.architecture}.{other}", int)
        if ours != theirs:
            return f"{name} drafts for another model: its {own} is {ours}, the model's {other} {theirs}"
    return None


def float_matrices(header: Header) -> list[str]:
    """Return the names of matrices that llama.cpp multiplies otherwise for one token than for several."""
    return [
        tensor.name
        for tensor in header.tensors.values()
        if len(tensor.shape) > 1
        and tensor.type.name in ("F32", "F16", "BF16")
        and tensor.name != _TABLE
    ]

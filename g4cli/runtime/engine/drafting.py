"""Speculative decoding as far as it needs no llama.cpp: choices, figures, checks of headers.

The process that holds the conversation chooses by them; `speculation` carries the choice out in the
worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from g4cli.core.file_kind import DRAFT
from g4cli.core.inventory import PER_LAYER_TOKEN_EMBD as _TABLE  # only looked up, never multiplied
from g4cli.estimate import N_DRAFT

if TYPE_CHECKING:
    from g4cli.core.gguf_header import Header

N_OUTPUTS: Final = N_DRAFT + 1
"""Rows of logits that a round needs: one after the sampled token, one after each drafted one."""

# Keys of a draft model, and those of the model that must have the same value. It reads the model's
# hidden states and returns such ones (`core/draft.py`): `embedding_length_out` is their size, while
# `embedding_length` is that of its own layers. And it attends to the model's KV cache.
_SAME: Final = MappingProxyType({
    "embedding_length_out": "embedding_length",
    "attention.key_length": "attention.key_length",
    "attention.key_length_swa": "attention.key_length_swa",
    "attention.sliding_window": "attention.sliding_window",
})  # fmt: skip

Exactness: TypeAlias = Literal["by comparison", "impossible", "not asked for"]
"""How greedy answers are kept equal to those without drafting: see `speculation`.

They are where g4 chooses whether to draft (`--draft auto`). "impossible" in models with float
matrices: nothing is drafted at temperature 0 there. "not asked for" where the user names a method.
"""


@dataclass(frozen=True, slots=True)
class DraftChoice:
    """What drafts tokens in a chat.

    `path`: the file of a draft model. `exactness`: what greedy answers require of drafting.
    """

    kind: Literal["off", "lookup", "network"]
    exactness: Exactness
    path: Path | None = None

    @property
    def n_outputs(self) -> int:
        """Return how many tokens of a batch need logits."""
        return 1 if self.kind == "off" else N_OUTPUTS

    @property
    def option(self) -> str:
        """Return the value of `--draft` that means this choice; memory is planned with it."""
        return str(self.path) if self.path else self.kind


def find_mismatch(drafter: Header, model: Header) -> str | None:
    """Return why `drafter` was not made for `model`, or None.

    llama.cpp would abort, or draft nonsense. Raises BadGGUF if a key is missing.
    """
    name = Path(drafter.path).name
    if drafter.architecture != DRAFT:
        return f"{name} is a {drafter.architecture} file, not a draft model ({DRAFT})"
    for own, other in _SAME.items():
        ours = drafter.get(f"{DRAFT}.{own}", int)
        theirs = model.get(f"{model.architecture}.{other}", int)
        if ours != theirs:
            return (
                f"{name} drafts for another model: its {own} is {ours}, "
                f"the model's {other} is {theirs}"
            )
    return None


def find_float_matrices(header: Header) -> list[str]:
    """Return the names of matrices whose kernel for one token rounds unlike the one for several."""
    return [
        tensor.name
        for tensor in header.tensors.values()
        if len(tensor.shape) > 1
        and tensor.type.name in ("F32", "F16", "BF16")
        and tensor.name != _TABLE
    ]

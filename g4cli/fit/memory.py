"""Does an estimate fit what the machine has? The margin, and the reason as a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from g4cli.core.units import GIB, size_text
from g4cli.estimate import HOST, Estimate

MARGIN_BYTES: Final = GIB
"""What a plan leaves free on each device, as llama.cpp's own fitting does; an eighth of small ones."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A device that may hold terms: "host" or a GPU's name, and its bytes in all and free now.

    A `unified` GPU takes its memory from the host's. `is_told` where the user described it.
    """

    name: str
    total_bytes: int
    available_bytes: int
    unified: bool = False
    is_told: bool = False

    @property
    def margin_bytes(self) -> int:
        """Return what stays free."""
        return min(MARGIN_BYTES, self.total_bytes // 8)

    @property
    def usable_bytes(self) -> int:
        """Return what a run may take."""
        return max(0, self.available_bytes - self.margin_bytes)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an estimate fits, with the reason as a sentence."""

    fits: bool
    reason: str


def verdict(found: Estimate, memories: Sequence[Memory]) -> Verdict:
    """Return whether every device holds its terms and keeps its margin free."""
    reasons = []
    for memory in memories:
        needed = needed_bytes(found, memory, memories)
        if not needed:
            continue
        place = _place(memory, memories)
        refusal = _refusal(needed, memory, place)
        if refusal:
            return Verdict(False, refusal)
        reasons.append(
            f"{_facts(needed, memory, place)}; {size_text(memory.available_bytes - needed)} stays free"
        )
    return Verdict(True, "; ".join(reasons))


def needed_bytes(found: Estimate, memory: Memory, memories: Sequence[Memory]) -> int:
    """Return what `found` takes of `memory`: the host also pays for GPUs without memory of their own."""
    needed = found.sum(device=memory.name)
    if memory.name == HOST:
        needed += sum(found.sum(device=m.name) for m in memories if m.unified)
    return needed


def _place(memory: Memory, memories: Sequence[Memory]) -> str:
    if memory.name == HOST:
        return " in host memory" if len(memories) > 1 else ""
    return f" on {memory.name}"


def _facts(needed: int, memory: Memory, place: str) -> str:
    return f"{size_text(needed)} needed{place}, {size_text(memory.available_bytes)} free"


def _refusal(needed: int, memory: Memory, place: str) -> str:
    facts, margin, total = _facts(needed, memory, place), memory.margin_bytes, memory.total_bytes
    if needed <= memory.usable_bytes:
        return ""
    if needed + margin <= total and not memory.is_told:
        return f"{facts} now; {size_text(total)} in all would do: close other programs"
    if needed <= total:
        return f"{facts}, {size_text(total)} in all: under {size_text(margin)} would be left"
    return f"{facts}, {size_text(total)} in all"

"""Judge whether an estimate fits the devices of a machine, with the reason as a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from g4cli.core.units import GIB, size_text
from g4cli.estimate import HOST, Estimate

RESERVE_BYTES: Final = GIB
"""Memory left free on each device, as llama.cpp's own fitting does; on small ones one eighth."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a device ("host" or a GPU's name): bytes in all, and free now.

    A `unified` GPU takes its memory from the host's. With `is_assumed` the user described it
    (--memory), and nothing was measured. `place` is the address of the worker that has the device.
    """

    name: str
    total_bytes: int
    available_bytes: int
    unified: bool = False
    is_assumed: bool = False
    place: str = ""

    @property
    def label(self) -> str:
        """The device in sentences: "CUDA0", "laptop:50052 (RPC0)"."""
        return f"{self.place} ({self.name})" if self.place else self.name

    @property
    def reserve_bytes(self) -> int:
        """Bytes that a run must leave free."""
        return min(RESERVE_BYTES, self.total_bytes // 8)

    @property
    def usable_bytes(self) -> int:
        """Bytes that a run may use."""
        return max(0, self.available_bytes - self.reserve_bytes)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an estimate fits, with the reason as a sentence."""

    fits: bool
    reason: str


def judge_estimate(estimate: Estimate, memories: Sequence[Memory]) -> Verdict:
    """Return whether every device has room for its terms and keeps its reserve free."""
    reasons = []
    for memory in memories:
        needed = count_needed_bytes(estimate, memory, memories)
        if not needed:
            continue
        facts = (
            f"{size_text(needed)} needed{_name_device(memory, memories)}, "
            f"{size_text(memory.available_bytes)} free"
        )
        refusal = _explain_refusal(needed, memory, facts)
        if refusal:
            return Verdict(False, refusal)
        reasons.append(f"{facts}; {size_text(memory.available_bytes - needed)} stays free")
    return Verdict(True, "; ".join(reasons))


def count_needed_bytes(estimate: Estimate, memory: Memory, memories: Sequence[Memory]) -> int:
    """Return the bytes of `memory` that `estimate` needs.

    GPUs without memory of their own count on the host too.
    """
    needed = estimate.sum_bytes(device=memory.name)
    if memory.name == HOST:
        needed += sum(estimate.sum_bytes(device=m.name) for m in memories if m.unified)
    return needed


def count_spare_bytes(estimate: Estimate, memories: Sequence[Memory]) -> int:
    """Return the bytes of host memory that stay free beside a run and the reserve."""
    return sum(
        max(0, memory.usable_bytes - count_needed_bytes(estimate, memory, memories))
        for memory in memories
        if memory.name == HOST
    )


def _name_device(memory: Memory, memories: Sequence[Memory]) -> str:
    if memory.name == HOST:
        return " in host memory" if len(memories) > 1 else ""
    return f" on {memory.label}"


def _explain_refusal(needed: int, memory: Memory, facts: str) -> str:
    """Return why `needed` bytes do not fit `memory`, or "" if they do."""
    reserve, total = memory.reserve_bytes, memory.total_bytes
    if needed <= memory.usable_bytes:
        return ""
    # A size that the user gave is all that counts: no other program's memory could become free.
    if needed + reserve <= total and not memory.is_assumed:
        return f"{facts} now; {size_text(total)} in all would be enough: close other programs"
    if needed <= total:
        return f"{facts}, {size_text(total)} in all: less than {size_text(reserve)} would stay free"
    return f"{facts}, {size_text(total)} in all"

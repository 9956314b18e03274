"""Does a file that calls itself SFP8 hold SFP8 values, every one of them?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.gguf_values import Array
from g4cli.core.sfp8 import RESERVED, TABLE_KEY, decode_words, labelled
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped

if TYPE_CHECKING:
    from g4cli.doctor.facts.file_facts import FileFacts

# The container that a label names -> the type of its tensors.
CONTAINERS: Final = {"I8": "I8", "BF16": "BF16", "F32": "F32"}
FIX: Final = "make it again: g4 quantize SOURCE --type sfp8, or g4 pull MODEL"
# In a bfloat16 word: what lies below three mantissa bits, and the third of them.
_BELOW_THIRD: Final = 0x000F
_THIRD: Final = 0x0010
_STEP: Final = 7  # bits below the exponent
_LARGEST: Final = 0x3FF0  # 1.875
# Three mantissa bits reach down to 2^-7 times the scale, two to 1.25 * 2^-23.
_THREE_BITS_FROM: Final = 120 << _STEP
_LEAST: Final = (104 << _STEP) + (1 << 5)


class Carried:
    """Takes the numbers of one coded tensor, piece by piece, and counts those that SFP8 does not have.

    A value is grid * 2^k with one k per tensor, the least that keeps the largest value within 1.875. Which
    k that is shows at the end only, so the finest and the smallest value are kept until then.
    """

    def __init__(self, type_name: str, *, only_down: bool) -> None:
        """Watch a tensor of `type_name`; `only_down`: its encoder never scales below 1 (gemma.cpp)."""
        self._type, self._only_down = type_name, only_down
        self._foreign = 0
        self._largest, self._finest, self._smallest = 0, 0xFFFF, 0xFFFF

    def add(self, octets: NDArray[np.uint8]) -> None:
        """Take bytes of whole numbers."""
        if self._type == "I8":
            self._foreign += int(np.count_nonzero(octets == RESERVED))
            return
        words = octets[: octets.size // 2 * 2].view("<u2")
        if self._type == "F32":
            words = octets[: octets.size // 4 * 4].view("<u2")
            self._foreign += int(np.count_nonzero(words[0::2]))
            words = words[1::2]
        magnitude = words & np.uint16(0x7FFF)
        self._foreign += int(np.count_nonzero(magnitude & np.uint16(_BELOW_THIRD)))
        held = magnitude[magnitude != 0]
        if not held.size:
            return
        self._largest = max(self._largest, int(held.max()))
        self._smallest = min(self._smallest, int(held.min()))
        fine = held[(held & np.uint16(_THIRD)) != 0]
        if fine.size:
            self._finest = min(self._finest, int(fine.min()))

    def finish(self) -> int:
        """Return how many numbers are not SFP8's; at least 1 where the range shows that some are not."""
        if self._foreign or not self._largest:
            return self._foreign
        # The least k with largest <= 1.875 * 2^k, in steps of the exponent.
        k = -(-(self._largest - _LARGEST) // (1 << _STEP))
        if self._only_down:
            k = max(0, k)
        shift = k << _STEP
        return int(self._finest < _THREE_BITS_FROM + shift) + int(self._smallest < _LEAST + shift)


def check_carrier(facts: FileFacts) -> Outcome:
    """Compare the label with the values."""
    if facts.header is None:
        return skipped("the header cannot be read")
    container, names = labelled(facts.header.keys)
    if not container:
        return skipped("no label says SFP8")
    if container not in CONTAINERS:
        return fail(
            f"the label says SFP8 in {container!r}, which g4 never writes",
            FIX,
            cause="conversion-defect",
        )
    tensors = facts.header.tensors
    other = [n for n in names if n not in tensors or tensors[n].type.name != CONTAINERS[container]]
    if other:
        return fail(
            f"the label says SFP8 in {container}, but {len(other)} of the tensors it names are not "
            f"there as {container}, first {min(other)}",
            FIX,
            cause="conversion-defect",
            detail=tuple(sorted(other)),
        )
    if container == "I8" and not _right_table(facts):
        return fail(
            f"{TABLE_KEY} is not the table of SFP8: every weight would be read wrongly",
            FIX,
            cause="conversion-defect",
        )
    if not facts.stats:
        return skipped("the data was not read", "g4 doctor FILE")
    bad = [s for s in facts.stats if s.foreign]
    if bad:
        return fail(
            f"labelled SFP8, but {len(bad)} of {len(names)} tensors hold numbers that no SFP8 code stands "
            f"for, first {bad[0].name}: they were rounded otherwise, or changed since",
            FIX,
            cause="conversion-defect",
            confidence="high",
            detail=tuple(s.name for s in bad),
        )
    return ok(f"SFP8 in {container}: the numbers of {len(names)} tensors are all on its grid")


def _right_table(facts: FileFacts) -> bool:
    value = facts.header.keys.get(TABLE_KEY) if facts.header is not None else None
    return (
        value is not None
        and isinstance(value.data, Array)
        and value.data.tolist() == decode_words()
    )


CHECKS: Final = (Check("weights.sfp8", check_carrier),)

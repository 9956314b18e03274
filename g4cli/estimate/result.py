"""The answer of the estimator: what takes memory where, term by term."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Group = Literal["weights", "kv", "compute", "process", "cache", "disk"]
HOST: Final = "host"


@dataclass(frozen=True, slots=True)
class Term:
    """Bytes of one purpose on one device ("host" or a GPU's name).

    The group "cache" is resident but no burden: pages of the file that the kernel drops when memory is short.
    The group "disk" takes no memory.
    """

    name: str
    device: str
    group: Group
    nbytes: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """All terms of one run. Sums hold what a run needs: neither "cache" nor "disk"."""

    terms: tuple[Term, ...]

    @property
    def weights_bytes(self) -> int:
        """Return the bytes of weights in memory, copies included, on all devices."""
        return self.sum(group="weights")

    @property
    def kv_bytes(self) -> int:
        """Return the bytes of the KV cache on all devices."""
        return self.sum(group="kv")

    @property
    def compute_bytes(self) -> int:
        """Return the bytes of llama.cpp's compute and output buffers on all devices."""
        return self.sum(group="compute")

    @property
    def total_bytes(self) -> int:
        """Return the bytes that the run needs on all devices."""
        return self.sum()

    @property
    def resident_bytes(self) -> int:
        """Return what the kernel counts for the process at its peak (VmHWM): needed and cached pages."""
        return self.sum(device=HOST) + self.sum(group="cache", device=HOST)

    @property
    def devices(self) -> tuple[str, ...]:
        """Return the devices in the order of their first term."""
        return tuple(dict.fromkeys(t.device for t in self.terms))

    def sum(self, *, group: Group | None = None, device: str | None = None) -> int:
        """Return the bytes of a group (None: of all that a run needs), on a device (None: on all)."""
        burden = ("weights", "kv", "compute", "process")
        wanted = (
            t for t in self.on(device) if t.group == group or (group is None and t.group in burden)
        )
        return sum(t.nbytes for t in wanted)

    def on(self, device: str | None) -> Iterable[Term]:
        """Yield the terms of `device` (None: of all)."""
        return (t for t in self.terms if device is None or t.device == device)

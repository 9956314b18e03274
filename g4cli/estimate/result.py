"""The answer of the estimator: what takes memory where, term by term."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Group = Literal["weights", "kv", "compute", "process", "disk"]
HOST: Final = "host"


@dataclass(frozen=True, slots=True)
class Term:
    """Bytes of one purpose on one device ("host" or a GPU's name). The group "disk" takes no memory."""

    name: str
    device: str
    group: Group
    nbytes: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """All terms of one run. Sums leave out what stays on the disk."""

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
        """Return the bytes in memory on all devices."""
        return sum(t.nbytes for t in self.terms if t.group != "disk")

    @property
    def devices(self) -> tuple[str, ...]:
        """Return the devices in the order of their first term."""
        return tuple(dict.fromkeys(t.device for t in self.terms))

    def sum(self, *, group: Group | None = None, device: str | None = None) -> int:
        """Return the bytes in memory of a group, a device, or both."""
        return sum(
            t.nbytes for t in self.on(device) if (group is None and t.group != "disk") or t.group == group
        )

    def on(self, device: str | None) -> Iterable[Term]:
        """Yield the terms of `device` (None: of all)."""
        return (t for t in self.terms if device is None or t.device == device)

"""The result of an estimate: bytes by purpose and device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Group = Literal["weights", "kv", "compute", "process", "cache", "disk"]
"""What a term is for. "process" are the processes themselves with all that g4 and the CPU's kernels
allocate; "cache" and "disk" are not needed (see Term)."""
HOST: Final = "host"


def is_remote(device: str) -> bool:
    """Return whether `device` belongs to a worker on another machine: ggml names them RPC0, ..."""
    return device.startswith("RPC")


@dataclass(frozen=True, slots=True)
class Term:
    """The bytes for one purpose on one device (HOST, or ggml's name of a GPU or a worker).

    Those of the group "cache" are resident but not needed: pages of the file that the operating
    system frees when memory is short. Those of the group "disk" stay on the disk.
    """

    name: str
    device: str
    group: Group
    nbytes: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """All terms of one run. Its sums count what the run needs: neither "cache" nor "disk"."""

    terms: tuple[Term, ...]

    @property
    def weights_bytes(self) -> int:
        """Weights on all devices, copies included."""
        return self.sum_bytes(group="weights")

    @property
    def kv_bytes(self) -> int:
        """KV cache on all devices."""
        return self.sum_bytes(group="kv")

    @property
    def compute_bytes(self) -> int:
        """Compute and output buffers on all devices."""
        return self.sum_bytes(group="compute")

    @property
    def total_bytes(self) -> int:
        """Memory that the run needs on all devices."""
        return self.sum_bytes()

    @property
    def resident_bytes(self) -> int:
        """Peak resident memory as Linux counts it (VmHWM): needed and cached pages of the host."""
        return self.sum_bytes(device=HOST) + self.sum_bytes(group="cache", device=HOST)

    def sum_bytes(self, *, group: Group | None = None, device: str | None = None) -> int:
        """Return the bytes of `group` on `device`.

        Without a group, all groups that a run needs; without a device, all devices.
        """
        needed = ("weights", "kv", "compute", "process")
        terms = (
            t
            for t in self.terms_on(device)
            if t.group == group or (group is None and t.group in needed)
        )
        return sum(t.nbytes for t in terms)

    def terms_on(self, device: str | None) -> Iterable[Term]:
        """Yield the terms of `device`; None: of all devices."""
        return (t for t in self.terms if device is None or t.device == device)

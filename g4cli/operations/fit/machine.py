"""The machine that `g4 fit` answers for: this one, or one that the user describes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from g4cli.core.errors import UsageError
from g4cli.core.units import GIB, parse_size, size_text
from g4cli.estimate import HOST
from g4cli.host import Gpu, GpuList, probe, refresh_gpus
from g4cli.operations.fit.subject import memories_of

if TYPE_CHECKING:
    from g4cli.fit import Memory
    from g4cli.host import HostFacts

SYSTEM_SHARE: Final = 8
"""One part in so many of another machine's memory is taken to be in use: nobody can measure it from here."""
_LEAST: Final = GIB // 4
_MOST_GPUS: Final = 16


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts, devices, and what to call it: "this machine", or "a machine with 8.00 GiB"."""

    host: HostFacts
    memories: tuple[Memory, ...]
    words: str


def find_machine(gpu: str, memory: str, gpu_memory: str) -> Machine:
    """Return this machine, or where `memory` or `gpu_memory` say so another: "8GB", "24GB" or "24GB,24GB".

    Another machine's GPUs are those of `gpu_memory` and no others. Raises UsageError.
    """
    if gpu == "probe" and not (memory or gpu_memory):
        refresh_gpus()
    host = probe()
    if not (memory or gpu_memory):
        return Machine(host, memories_of(host, with_gpus=gpu != "off"), "this machine")
    words = []
    if memory:
        total = _size(memory, "--memory 16GB")
        free = total - total // SYSTEM_SHARE
        host = replace(host, total_bytes=total, available_bytes=free, limited_by="memory")
        words.append(size_text(total))
    sizes = (
        [_size(text, "--gpu-memory 24GB") for text in gpu_memory.split(",")] if gpu_memory else []
    )
    if len(sizes) > _MOST_GPUS:
        raise UsageError(f"{len(sizes)} GPUs; {_MOST_GPUS} at most", hint="--gpu-memory 24GB,24GB")
    gpus = tuple(Gpu(f"GPU{i}", "as told", size, size) for i, size in enumerate(sizes))
    host = replace(host, gpus=GpuList(gpus, "", 0.0))
    words += [f"a GPU of {size_text(g.total_bytes)}" for g in gpus]
    name = "a machine with " if memory else "this machine with "
    memories = memories_of(host, with_gpus=gpu != "off")
    told = tuple(replace(m, is_told=bool(memory) or m.name != HOST) for m in memories)
    return Machine(host, told, name + " and ".join(words))


def _size(text: str, example: str) -> int:
    nbytes = parse_size(text)
    if not _LEAST <= nbytes < 1 << 60:
        raise UsageError(f"{text!r} is no machine's memory", hint=example)
    return nbytes

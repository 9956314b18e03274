"""The machine for which `g4 fit` plans: this one, or one that the user describes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from g4cli.core.errors import UsageError
from g4cli.core.units import exact_size_text, size_text
from g4cli.estimate import HOST
from g4cli.fit.memory import Memory
from g4cli.host import Gpu, HostFacts, read_host, refresh_gpus
from g4cli.operations.fit.options import list_memories
from g4cli.operations.fit.request import FitRequest
from g4cli.operations.workers import (
    SYSTEM_SHARE,
    ask_worker_memories,
    check_split,
    describe_worker_memories,
)

_MAX_GPUS: Final = 16  # GGML_CUDA_MAX_DEVICES


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts and devices of a machine.

    `description` names it in sentences: "this machine", or "a machine with 8.00 GiB". `options` are
    those of `g4 fit` that describe it, with a space before them: " --memory 8G"; "" for this one.
    """

    host: HostFacts
    memories: tuple[Memory, ...]
    description: str
    options: str = ""


def find_request_machine(request: FitRequest) -> Machine:
    """Return the machine of `request`; workers of --rpc are asked for their memory.

    Raises UsageError, NetworkError or RuntimeFailed.
    """
    if request.rpc and request.worker_memory_bytes:
        raise UsageError(
            "--rpc asks workers for their memory, --worker-memory describes them: one of both",
            hint="--worker-memory 16GB,8GB",
        )
    workers = ask_worker_memories(request.rpc) or describe_worker_memories(
        request.worker_memory_bytes
    )
    machine = find_machine(request.gpu, request.memory_bytes, request.gpu_memory_bytes)
    if workers:
        host, *gpus = machine.memories
        places = list(dict.fromkeys(memory.place for memory in workers))
        sizes = [sum(m.total_bytes for m in workers if m.place == place) for place in places]
        *names, last = (f"{p} with {size_text(n)}" for p, n in zip(places, sizes, strict=True))
        machine = replace(
            machine,
            memories=(host, *workers, *gpus),
            description=f"{', '.join([machine.description, *names])} and {last}",
        )
    check_split(request.tensor_split, machine.memories)
    options = machine.options
    if request.rpc:
        options += f" --rpc {','.join(map(str, request.rpc))}"
    if request.worker_memory_bytes:
        options += f" --worker-memory {','.join(map(exact_size_text, request.worker_memory_bytes))}"
    return replace(machine, options=options)


def find_machine(
    gpu: Literal["auto", "off", "probe"] = "auto",
    memory_bytes: int | None = None,
    gpu_memory_bytes: tuple[int, ...] = (),
) -> Machine:
    """Return this machine, or the one that `memory_bytes` or `gpu_memory_bytes` describe.

    A machine that is described has the GPUs of `gpu_memory_bytes` and no others; without
    `memory_bytes` its host is this one. `gpu` is as in FitRequest. Raises UsageError for too many
    GPUs.
    """
    is_described = memory_bytes is not None or bool(gpu_memory_bytes)
    if gpu == "probe" and not is_described:
        refresh_gpus()
    host = read_host()
    if not is_described:
        return Machine(host, list_memories(host, with_gpus=gpu != "off"), "this machine")
    if len(gpu_memory_bytes) > _MAX_GPUS:
        raise UsageError(
            f"{len(gpu_memory_bytes)} GPUs were described; g4 plans for {_MAX_GPUS} at most",
            hint="--gpu-memory 24GB,24GB",
        )
    parts, given = [], []
    if memory_bytes is not None:
        free = memory_bytes - memory_bytes // SYSTEM_SHARE
        host = replace(host, total_bytes=memory_bytes, available_bytes=free, limited_by="memory")
        parts.append(size_text(memory_bytes))
        given.append(f" --memory {exact_size_text(memory_bytes)}")
    gpus = tuple(
        Gpu(f"GPU{i}", "described by the user", size, size)
        for i, size in enumerate(gpu_memory_bytes)
    )
    host = replace(host, gpus=gpus)
    if gpus:
        given.append(f" --gpu-memory {','.join(exact_size_text(g.total_bytes) for g in gpus)}")
    parts += [f"a GPU of {size_text(g.total_bytes)}" for g in gpus]
    name = "this machine" if memory_bytes is None else "a machine"
    # If only GPUs are described, the memory of the host is that of this machine, as measured.
    memories = tuple(
        replace(m, is_assumed=memory_bytes is not None or m.name != HOST)
        for m in list_memories(host, with_gpus=gpu != "off")
    )
    return Machine(host, memories, f"{name} with {' and '.join(parts)}", "".join(given))

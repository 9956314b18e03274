"""Memory of workers on other machines, and where layers go in a run without a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from g4cli.core.errors import UsageError
from g4cli.core.units import count_text
from g4cli.core.worker_address import NO_WORKERS, WorkerAddress, WorkerOptions
from g4cli.estimate import Options, is_remote, keeps_layers_together
from g4cli.estimate.placement import layer_devices
from g4cli.fit.context import try_options
from g4cli.fit.memory import Memory
from g4cli.host import read_host
from g4cli.operations.fit.options import list_memories, make_loading_options
from g4cli.operations.fit.subject import Subject, make_subject
from g4cli.runtime.rpc.tunnel import open_tunnels
from g4cli.runtime.rpc.workers import check_worker

if TYPE_CHECKING:
    from g4cli.core.reporter import Reporter
    from g4cli.operations.models import LoadableModel
    from g4cli.runtime.engine.options import ModelOptions

SYSTEM_SHARE: Final = 8
"""A choice: an eighth of the memory of a machine that the user describes counts as in use."""


def ask_worker_memories(addresses: Sequence[WorkerAddress]) -> tuple[Memory, ...]:
    """Return the memory of each device of the workers. Raises NetworkError or RuntimeFailed.

    The devices have the names that ggml gives them, in its order: RPC0, RPC1, ...
    """
    memories: list[Memory] = []
    with open_tunnels(addresses) as workers:
        for address, host, port in workers:
            for found in check_worker(address, host, port):
                name, total, free = f"RPC{len(memories)}", found.total_bytes, found.free_bytes
                memories.append(Memory(name, total, free, place=str(address)))
    return tuple(memories)


def describe_worker_memories(sizes: Sequence[int]) -> tuple[Memory, ...]:
    """Return the memory of workers that the user describes by their bytes.

    Each has one device, with the name that llama.cpp gives to devices of workers: RPC0, RPC1.
    """
    return tuple(
        Memory(
            f"RPC{i}", size, size - size // SYSTEM_SHARE, is_assumed=True, place=f"worker {i + 1}"
        )
        for i, size in enumerate(sizes)
    )


def place_layers_of_run(
    model: LoadableModel,
    loading: ModelOptions,
    workers: WorkerOptions = NO_WORKERS,
    *,
    n_ctx: int,
    kv_type: str = "f16",
    reporter: Reporter,
) -> ModelOptions:
    """Return `loading` with the layers placed, for a run without a conversation, such as a bench.

    On workers, and on GPUs if the number of layers was not given, they are planned as a chat with a
    context of `n_ctx` tokens would be. Raises UsageError (--tensor-split, the KV cache type),
    BadGGUF, and what asking the workers raises.
    """
    host = read_host()
    worker_memories = ask_worker_memories(workers.addresses)
    memories = list_memories(host, workers=worker_memories, device=loading.device)
    check_split(workers.tensor_split, memories)
    is_fixed = loading.n_gpu_layers >= 0
    if len(memories) == 1 or (is_fixed and not workers):  # the host alone, or nothing to plan
        return loading
    subject = make_subject(model.path, model.header)
    options = make_loading_options(host, subject, loading, n_ctx=n_ctx, kv_type=kv_type)
    trial = try_options(subject.shape, subject.tensors, options, memories)
    warn_of_divided_layers(subject, trial.options, memories, reporter)
    reporter.say(trial.placement)
    if not trial.verdict.fits:
        reporter.warn(f"the model may not fit into memory: {trial.verdict.reason}")
    return take_placement(loading, trial.options)


def take_placement(loading: ModelOptions, placed: Options) -> ModelOptions:
    """Return `loading` with the layers where a plan has `placed` them."""
    return replace(
        loading,
        n_gpu_layers=placed.n_gpu_layers,
        n_cpu_moe=placed.n_cpu_moe,
        tensor_split=placed.tensor_split,
    )


def warn_of_divided_layers(
    subject: Subject, options: Options, memories: Sequence[Memory], reporter: Reporter
) -> None:
    """Warn if `options` put some layers on a worker, of a model whose layers belong together."""
    names = tuple(memory.name for memory in memories[1:])
    devices = set(layer_devices(subject.shape.n_layer, options, names))
    is_divided = len(devices) > 1 and any(map(is_remote, devices))
    if is_divided and keeps_layers_together(subject.shape):
        reporter.warn(
            "the layers of this model share keys and values: divided between machines, these cross "
            "the network for each token"
        )


def check_split(split: Sequence[float], memories: Sequence[Memory]) -> None:
    """Raise UsageError unless --tensor-split has a number for each device but the host, or none."""
    names = [m.label for m in memories[1:]]
    if split and len(split) != len(names):
        raise UsageError(
            f"--tensor-split has {count_text(len(split), 'number')}; the layers go to "
            f"{count_text(len(names), 'device')}: "
            f"{', '.join(names) or 'none'}",
            hint=f"--tensor-split {','.join('1' * len(names))}" if names else "omit it",
        )

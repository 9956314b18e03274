"""The request of `g4 fit`: the settings of a run, and the machine to plan for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from g4cli.core.worker_address import WorkerAddress

ContextChoice: TypeAlias = "int | Literal['auto', 'max']"
"""A number of tokens; "auto": the one that `g4 chat` would open; "max": the largest that fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRequest:
    """The options of `g4 fit`, parsed. The defaults are those of the command line.

    `draft` is "auto", "off", "lookup", "network" or the path of a draft model. `memory_bytes` and
    `gpu_memory_bytes` (one size for each GPU) describe another machine than this one. `gpu` "probe"
    asks llama.cpp for the GPUs of this machine, "auto" takes those that it saw last, "off" none.
    `n_gpu_layers` below 0: as many layers as fit. `measure`: the rate at which this machine reads
    weights is measured again. `rpc` are workers to ask for their memory; `worker_memory_bytes`
    describes workers, one size for each. `tensor_split`: the proportions of the layers on workers
    and GPUs.
    """

    model: str
    ctx: ContextChoice = "auto"
    kv_type: str = "f16"
    n_ubatch: int = 512
    n_seq: int = 1
    flash_attn: bool = True
    swa_full: bool = False
    mmap: bool = True
    lazy_ple: Literal["auto", "on", "off"] = "auto"
    mmproj: Path | None = None
    image_tokens: int = 1120
    gpu: Literal["auto", "off", "probe"] = "auto"
    n_gpu_layers: int = -1
    n_cpu_moe: int = 0
    draft: str = "auto"
    memory_bytes: int | None = None
    gpu_memory_bytes: tuple[int, ...] = ()
    verify: bool = False
    measure: bool = False
    rpc: tuple[WorkerAddress, ...] = ()
    worker_memory_bytes: tuple[int, ...] = ()
    tensor_split: tuple[float, ...] = ()

"""Prepare a model for loading: find it, expand an SFP8 archive, check its header.

`g4 chat`, `bench`, `eval`, `imatrix` and `serve` begin with this step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from g4cli.core.errors import BadGGUF
from g4cli.core.gguf import read_header, read_model_header
from g4cli.core.gguf_header import Header
from g4cli.core.paths import cache_dir
from g4cli.core.reporter import Reporter
from g4cli.core.sfp8 import ARCHIVE_SUFFIX
from g4cli.core.shape import require_tokenizer, shape_of
from g4cli.core.units import MORE_LAYERS, parse_gpu_layers
from g4cli.core.worker_address import NO_WORKERS, WorkerOptions
from g4cli.runtime.engine.options import ModelOptions
from g4cli.runtime.probes.kernels import probe_kernels
from g4cli.store.models import find_model_file


@dataclass(frozen=True, slots=True)
class LoadableModel:
    """A model file that llama.cpp can load.

    `use_extra_bufts` is llama.cpp's name for using the buffer types of repacked weights: False
    where the kernels for them fail on this machine.
    """

    path: Path
    header: Header
    use_extra_bufts: bool


def prepare_model(
    name: str, reporter: Reporter, *, expand: Literal["bf16", "q8_0"] = "bf16"
) -> LoadableModel:
    """Return the model called `name` (a reference or a path), ready to be loaded.

    The first use of an SFP8 archive writes a copy in the type `expand` to the cache: gigabytes for
    a large model. Raises NotFound, BadGGUF or another error of the file, NoSpace, or RuntimeFailed
    if no kernel works on this machine.
    """
    path = find_model_file(name).path
    header = read_model_header(path)
    if header.architecture.endswith(ARCHIVE_SUFFIX):
        path = _expand_archive(path, expand, reporter)
        header = read_header(path)
    shape_of(header)  # raises for another architecture
    if not header.tensors:
        raise BadGGUF(path, "it has a vocabulary but no weights", hint="g4 list")
    require_tokenizer(header)
    kernels = probe_kernels()
    if not kernels.use_extra_bufts:
        reporter.say(kernels.reason)
    return LoadableModel(path, header, kernels.use_extra_bufts)


def _expand_archive(archive: Path, expand: Literal["bf16", "q8_0"], reporter: Reporter) -> Path:
    """Return the copy of an SFP8 archive in a type of llama.cpp, written at its first use."""
    from g4cli.quant.expand import make_runnable

    folder = cache_dir() / "expanded"
    kind = expand.upper()
    reporter.say(f"{archive.name} is an SFP8 archive; llama.cpp runs a {kind} copy in {folder}")
    with reporter.progress(f"expand {archive.name}, only once") as progress:
        return make_runnable(archive, folder, container=expand, progress=progress)


def make_model_options(
    model: LoadableModel,
    *,
    gpu_layers: str = "auto",
    device: str | None = None,
    mmap: bool = True,
    lazy_ple: Literal["auto", "on", "off"] = "auto",
    cpu_moe: bool = False,
    workers: WorkerOptions = NO_WORKERS,
) -> ModelOptions:
    """Return how to load `model` as the options of these names ask for it.

    Raises UsageError unless `gpu_layers` is "auto", "all" or a number.
    """
    return ModelOptions(
        n_gpu_layers=parse_gpu_layers(gpu_layers),
        device=device,
        mmap=mmap,
        lazy_ple=lazy_ple,
        n_cpu_moe=MORE_LAYERS if cpu_moe else 0,
        use_extra_bufts=model.use_extra_bufts,
        workers=workers.texts,
        tensor_split=workers.tensor_split,
    )

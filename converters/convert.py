"""The driver: plan the whole file from the headers, then encode each tensor once, in row blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from converters.blocks import is_finite, plain_encode, row_blocks
from converters.checkpoint import Checkpoint, named, open_checkpoint, read_json
from converters.config import read_config
from converters.metadata import general_keys
from converters.names import Claim, claim, expand
from converters.parts import Part, PartName, choose_part
from g4cli.core import ggml
from g4cli.core.errors import BadCheckpoint, UsageError
from g4cli.core.ggml import BF16, F16, F32, GGMLType
from g4cli.core.gguf_values import Value, u32
from g4cli.core.gguf_write import GGUFWriter, TensorSpec, create_gguf, prove
from g4cli.core.progress import Progress, no_progress

Block: TypeAlias = "NDArray[Any]"
"""[n, row length]: float32, float16, or uint16 holding the bits of BF16."""

Encode: TypeAlias = Callable[[TensorSpec, Iterable[Block]], Iterable[memoryview]]
"""The bytes of a tensor, in order, from its row blocks, in order."""

ChooseTypes: TypeAlias = Callable[[Sequence[TensorSpec]], Sequence[TensorSpec]]
"""The tensors with their final types, from those of the plain conversion; same names, same order."""

# general.file_type of the plain types (enum llama_ftype, include/llama.h, llama.cpp@0c1e57098)
FILE_TYPES: Final[Mapping[str, int]] = MappingProxyType({"F32": 0, "F16": 1, "BF16": 32})
QUANTIZATION_VERSION: Final = 2  # GGML_QNT_VERSION


@dataclass(frozen=True, slots=True)
class Converted:
    """A finished file. `ignored`: tensors left out, each with its reason; `types`: bytes per tensor type."""

    path: Path
    nbytes: int
    sha256: str
    seconds: float
    n_tensors: int
    types: Mapping[str, int]
    ignored: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Job:
    """A tensor to write: its plain spec and where its numbers come from."""

    spec: TensorSpec
    blocks: Callable[[], Iterator[Block]]
    origin: str


def convert_checkpoint(
    folder: Path,
    target: Path,
    *,
    part: PartName = "text",
    plain: GGMLType = BF16,
    choose_types: ChooseTypes | None = None,
    encode: Encode | None = None,
    file_type: int | None = None,
    extra_keys: Mapping[str, Value] | None = None,
    ignore_keys: frozenset[str] = frozenset(),
    progress: Progress = no_progress,
) -> Converted:
    """Return the GGUF at `target`, made of the checkpoint in `folder`, written once and read back.

    `plain` (F32, F16 or BF16) is the type of large tensors before `choose_types` has its say. `ignore_keys`
    are config keys that the caller vouches for. Nothing is left behind on an error. Raises FileMissing,
    BadCheckpoint (every fault of a kind at once), UsageError or NoSpace.
    """
    started = time.monotonic()
    if plain.name not in FILE_TYPES:
        raise UsageError(f"{plain.name} is no plain type", hint="one of: bf16 f16 f32")
    folder = Path(folder)
    checkpoint = open_checkpoint(folder)
    where = folder / "config.json"
    config = read_config(read_json(where), str(where), ignore_keys)
    chosen = choose_part(part, config, folder)
    table = expand(chosen.rows, config, chosen.n_layer)
    claims, ignored = claim(checkpoint.tensors, table, chosen.ignores, chosen.normalise, str(folder))
    jobs = _jobs(checkpoint, chosen, claims, plain)
    specs = [job.spec for job in jobs]
    final = list(choose_types(specs)) if choose_types else specs
    if [s.name for s in final] != [s.name for s in specs]:
        raise ValueError("choose_types must keep the tensors and their order")
    keys = general_keys(folder, config.raw, chosen.arch, chosen.kind, specs)
    keys.update(chosen.keys(FILE_TYPES[plain.name] if file_type is None else file_type))
    keys["general.quantization_version"] = u32(QUANTIZATION_VERSION)
    keys.update(chosen.more_keys)
    keys.update(extra_keys or {})
    with create_gguf(target, keys, final) as writer:
        _write(writer, jobs, final, encode or plain_encode, progress)
        written = writer.finish()
    prove(written, final)
    return Converted(
        path=target,
        nbytes=written.nbytes,
        sha256=written.sha256,
        seconds=time.monotonic() - started,
        n_tensors=len(final),
        types=MappingProxyType(_bytes_by_type(final)),
        ignored=MappingProxyType(ignored),
    )


def _jobs(checkpoint: Checkpoint, part: Part, claims: Sequence[Claim], plain: GGMLType) -> list[_Job]:
    jobs = [
        _Job(
            TensorSpec(name, F32, tuple(reversed(data.shape))),
            lambda data=data: row_blocks(data, data.shape[-1]),  # type: ignore[misc]
            "computed",
        )
        for name, data in part.generated.items()
    ]
    for item in claims:
        jobs.append(_job(checkpoint, item, plain))
    return jobs


def _job(checkpoint: Checkpoint, item: Claim, plain: GGMLType) -> _Job:
    row, name = item.wanted.row, item.source.name
    view = row.view(checkpoint.array(name))
    shape = tuple(int(n) for n in reversed(view.shape))
    spec = TensorSpec(
        item.wanted.target, plain_type(item.wanted.target, len(shape), plain, force_f32=row.f32), shape
    )
    return _Job(spec, lambda: row_blocks(view, shape[0], row.value), name)


def plain_type(name: str, n_dims: int, plain: GGMLType, *, force_f32: bool = False) -> GGMLType:
    """Return the type of a tensor in a plain conversion: vectors, norms and scales stay F32.

    conversion/base.py, prepare_tensors, llama.cpp@0c1e57098.
    """
    small = n_dims <= 1 or name.endswith("_norm.weight") or not name.endswith(".weight")
    return F32 if small or force_f32 else plain


def _write(
    writer: GGUFWriter, jobs: Sequence[_Job], final: Sequence[TensorSpec], encode: Encode, progress: Progress
) -> None:
    """Write every tensor; raise BadCheckpoint at the end if any number was not finite or left its range."""
    broken: list[str] = []
    for job, spec in zip(jobs, final, strict=True):
        fault = _Fault(job.origin)
        for piece in encode(spec, fault.watch(job.blocks())):
            if spec.type in (F16, BF16) and not fault.found and not is_finite(_numbers(piece, spec.type)):
                fault.found = f"{job.origin} (beyond the range of {spec.type.name})"
            writer.write(piece)
            progress(writer.nbytes, writer.total, spec.name)
        if fault.found:
            broken.append(fault.found)
    if broken:
        raise BadCheckpoint(named("not finite (NaN or Inf)", broken), hint="download the checkpoint again")


def _numbers(piece: memoryview, kind: GGMLType) -> Block:
    return np.frombuffer(piece, np.uint16 if kind is ggml.BF16 else np.float16)


class _Fault:
    """Watches the blocks of one tensor; a bad one becomes zeros, so that every tensor is looked at."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.found = ""

    def watch(self, blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            if is_finite(block):
                yield block
            else:
                self.found = self.origin
                yield np.zeros_like(block)


def _bytes_by_type(specs: Sequence[TensorSpec]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for spec in specs:
        totals[spec.type.name] = totals.get(spec.type.name, 0) + spec.nbytes
    return dict(sorted(totals.items(), key=lambda item: -item[1]))

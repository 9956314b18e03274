"""The conversion: plan the file from the headers, then encode each tensor once, in row blocks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Final

from g4cli.converters.blocks import Coder, PlainCoder, Tensor
from g4cli.converters.checkpoint import (
    Checkpoint,
    list_names,
    make_damage_error,
    open_checkpoint,
    read_json,
    require_folder,
)
from g4cli.converters.config import read_config
from g4cli.converters.metadata import general_keys
from g4cli.converters.names import Claim, claim_tensors
from g4cli.converters.parts import Part, PartName, make_part
from g4cli.core.errors import UsageError
from g4cli.core.ggml import BF16, F32, GGMLType
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.gguf_write import create_gguf
from g4cli.core.progress import Progress, no_progress

# general.file_type of the types without quantization, called plain types here (enum llama_ftype,
# include/llama.h, llama.cpp@0c1e57098).
FILE_TYPES: Final[Mapping[str, int]] = MappingProxyType({"F32": 0, "F16": 1, "BF16": 32})


@dataclass(frozen=True, slots=True)
class Converted:
    """A finished file.

    `types` maps each tensor type to the bytes of its tensors, the largest first. `ignored` maps the
    checkpoint tensors that were left out to the reason.
    """

    path: Path
    nbytes: int
    sha256: str
    seconds: float
    n_tensors: int
    types: Mapping[str, int]
    ignored: Mapping[str, str]

    def as_json(self) -> dict[str, object]:
        """Return the figures for scripts, without the path."""
        return {
            "bytes": self.nbytes,
            "seconds": round(self.seconds, 3),
            "sha256": self.sha256,
            "tensors": self.n_tensors,
            "bytes_by_type": dict(self.types),
            "ignored": dict(self.ignored),
        }


def convert_checkpoint(
    folder: Path,
    target: Path,
    *,
    part: PartName = "text",
    plain: GGMLType | None = BF16,
    coder: Coder | None = None,
    ignore_keys: frozenset[str] = frozenset(),
    progress: Progress = no_progress,
) -> Converted:
    """Return the GGUF at `target`, made of the checkpoint in `folder`, written once and read back.

    `plain` (F32, F16, BF16, or None for the checkpoint's type) is the type of matrices, unless
    `coder` chooses another. `ignore_keys` are unknown config keys that the caller knows to be
    harmless. No file is left after an error. Raises FileMissing, BadCheckpoint (with all faults of
    a kind at once), UsageError or NoSpace.
    """
    started = time.monotonic()
    if plain is not None and plain.name not in FILE_TYPES:
        raise UsageError(f"{plain.name} is not an unquantized type", hint="one of: bf16 f16 f32")
    coder = coder or PlainCoder()
    where = folder / "config.json"
    require_folder(folder)
    config = read_config(read_json(where), str(where), ignore_keys, media=part == "mmproj")
    checkpoint = open_checkpoint(folder)
    plain = plain or checkpoint.plain_type()
    output = make_part(part, config, folder, FILE_TYPES[plain.name])
    claims, ignored = claim_tensors(
        checkpoint.tensors, output.expected, output.ignores, output.normalize_name, str(folder)
    )
    not_finite: dict[str, None] = {}  # names without duplicates, in the order in which they occur
    planned = list(_make_tensors(checkpoint, output, claims, plain, not_finite))
    rows = {spec.name: partial(tensor.iter_blocks, coder.block_weights) for spec, tensor in planned}
    plain_specs = [spec for spec, _ in planned]
    general = general_keys(folder, config.raw, output.arch, output.kind, plain_specs)
    keys, specs = coder.plan_tensors({**general, **output.keys}, plain_specs)
    if sorted(spec.name for spec in specs) != sorted(rows):
        raise ValueError("a coder must keep all tensors and add none")
    with create_gguf(target, keys, specs) as writer:
        for piece in coder.encode_tensors((spec, rows[spec.name]) for spec in specs):
            writer.write(piece)
            progress(writer.nbytes, writer.total, output.kind)
        if not_finite:
            bad = list_names("not finite (NaN or Inf)", list(not_finite))
            raise make_damage_error(folder, bad)
        written = writer.finish()
    bytes_by_type: Counter[str] = Counter()
    for spec in specs:
        bytes_by_type[spec.type.name] += spec.nbytes
    return Converted(
        path=target,
        nbytes=written.nbytes,
        sha256=written.sha256,
        seconds=time.monotonic() - started,
        n_tensors=len(specs),
        types=MappingProxyType(dict(bytes_by_type.most_common())),
        ignored=MappingProxyType(ignored),
    )


def _make_tensors(
    checkpoint: Checkpoint,
    part: Part,
    claims: Sequence[Claim],
    plain: GGMLType,
    not_finite: dict[str, None],
) -> Iterator[tuple[TensorSpec, Tensor]]:
    """Yield the tensors to write, each after its spec without quantization.

    The tensors add the names of those with NaN or Inf to `not_finite` while they are read.
    """
    for name, data in part.generated.items():
        spec = TensorSpec(name, F32, tuple(reversed(data.shape)))
        yield spec, Tensor(data, data.shape[-1], name, not_finite)
    for source, expected in claims:
        row = expected.row
        view = row.view(checkpoint.map_array(source.name))
        n_kept = view.ndim - row.merge  # the axes after these become the row
        # A GGUF lists the fastest dimension, the row length, first.
        shape = tuple(reversed((*view.shape[:n_kept], prod(view.shape[n_kept:]))))
        kind = plain_type(expected.target, len(shape), plain, force_f32=row.f32)
        yield (
            TensorSpec(expected.target, kind, shape),
            Tensor(view, shape[0], source.name, not_finite, row.value, row.infinite),
        )


def plain_type(name: str, n_dims: int, plain: GGMLType, *, force_f32: bool = False) -> GGMLType:
    """Return the type of a tensor without quantization: `plain` for most matrices.

    Vectors, norms and scales are F32, and so is the patch embedding where `plain` is BF16. Source:
    prepare_tensors and MmprojModel.tensor_force_quant in conversion/base.py,
    llama.cpp@0c1e57098.
    """
    is_small = n_dims <= 1 or name.endswith("_norm.weight") or not name.endswith(".weight")
    is_bf16_patch = name == "v.patch_embd.weight" and plain is BF16
    return F32 if is_small or is_bf16_patch or force_f32 else plain

"""Convert a checkpoint to any type in one pass, with the recipes and encoders of quant.

Only this module uses both; converters and quant do not import each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.converters import Converted, convert_checkpoint
from g4cli.converters.blocks import Coder, PlainCoder
from g4cli.converters.metadata import model_name
from g4cli.converters.parts import PartName
from g4cli.core.errors import Interrupted, UsageError
from g4cli.core.files import require_file_target
from g4cli.core.ggml import BF16, F16, F32, Q8_0, GGMLType, ggml_type
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.gguf_values import Value, uint32_value
from g4cli.core.progress import Progress, no_progress
from g4cli.core.row_blocks import Rows
from g4cli.quant.encode import BLOCK_WEIGHTS, Job, open_encoder
from g4cli.quant.provenance import SOURCE_SHA256, new_keys
from g4cli.quant.recipes import Recipe, choose_tensors, file_type

PLAIN_TYPES: Final = ("bf16", "f16", "f32")  # without quantization


@dataclass(frozen=True, slots=True)
class RecipeCoder:
    """A converters.blocks.Coder that follows `recipe`; `folder` is recorded as the source.

    `threads` None: one for each core.
    """

    recipe: Recipe
    folder: Path
    threads: int | None = None
    block_weights: int = BLOCK_WEIGHTS

    def plan_tensors(
        self, keys: Mapping[str, Value], specs: Sequence[TensorSpec]
    ) -> tuple[Mapping[str, Value], Sequence[TensorSpec]]:
        """Return the keys and tensors as `g4 quantize` writes them, without the source's hash.

        The checkpoint is read once, while it is converted: its hash is not known when the header is
        written.
        """
        choices = choose_tensors(specs, self.recipe)
        new_file_keys = new_keys(
            self.folder.resolve(),
            keys,
            self.recipe,
            source_sha256="",
            sfp8_tensors=tuple(c.name for c in choices if c.rounds),  # to values of SFP8
        )
        new_file_keys.pop(SOURCE_SHA256)
        return new_file_keys, [c.spec for c in choices]

    def encode_tensors(self, tensors: Iterable[tuple[TensorSpec, Rows]]) -> Iterator[memoryview]:
        """Yield the bytes of all tensors, in order."""
        with open_encoder(self.recipe, threads=self.threads) as encode:
            yield from encode.encode_jobs(Job(spec, rows) for spec, rows in tensors)


@dataclass(frozen=True, slots=True)
class MmprojCoder:
    """A converters.blocks.Coder for an mmproj file: Q8_0, or F16 where rows do not fill blocks.

    As llama.cpp's converter does with --outtype q8_0 (conversion/base.py, prepare_tensors,
    llama.cpp@0c1e57098); its quantizer does not accept mmproj files.
    """

    threads: int | None = None
    block_weights: int = BLOCK_WEIGHTS

    def plan_tensors(
        self, keys: Mapping[str, Value], specs: Sequence[TensorSpec]
    ) -> tuple[Mapping[str, Value], Sequence[TensorSpec]]:
        """Return the keys with the new file type, and the tensors with their new types."""
        new_specs = []
        for spec in specs:
            fits = spec.shape[0] % Q8_0.block_size == 0
            kind = spec.type if spec.type is F32 else Q8_0 if fits else F16
            new_specs.append(TensorSpec(spec.name, kind, spec.shape))
        return {**keys, "general.file_type": uint32_value(file_type("q8_0").ftype)}, new_specs

    def encode_tensors(self, tensors: Iterable[tuple[TensorSpec, Rows]]) -> Iterator[memoryview]:
        """Yield the bytes of all tensors, in order."""
        plain = PlainCoder(threads=1)  # one call for each tensor, most of them small
        with open_encoder(Recipe("q8_0"), threads=self.threads) as encode:
            for spec, rows in tensors:
                if spec.type is Q8_0:
                    yield from encode.encode_jobs([Job(spec, rows)])
                else:
                    yield from plain.encode_tensors([(spec, rows)])


def convert_folder(
    folder: Path,
    target: Path | None,
    *,
    type_name: str,
    part: PartName = "text",
    ignore_keys: frozenset[str] = frozenset(),
    force: bool = False,
    threads: int | None = None,
    progress: Progress = no_progress,
) -> Converted:
    """Return the GGUF made from the checkpoint in `folder`, in any type that g4 knows.

    `target` None: the folder's name and the type, in the current directory. SFP8 is written as BF16
    numbers that are all SFP8 values. Raises what check_request and converters.convert_checkpoint
    raise, and Interrupted on Ctrl-C.
    """
    name = file_type(type_name).name
    target = target or choose_target(folder, name, part)
    check_request(name, part, target, force=force)
    plain, coder = _choose_coder(name, part, folder, threads)
    try:
        return convert_checkpoint(
            folder,
            target,
            part=part,
            plain=plain,
            coder=coder,
            ignore_keys=ignore_keys,
            progress=progress,
        )
    except KeyboardInterrupt:
        kept = "the existing file was not changed" if target.is_file() else "nothing was kept"
        raise Interrupted(f"interrupted; {kept}", hint="run the same command again") from None


def check_request(type_name: str, part: PartName, target: Path | None, *, force: bool) -> str:
    """Return the name of the type, of which `type_name` may be an alias, in any case.

    Raises UsageError if `part` cannot have it, or `target` exists and `force` is not given.
    """
    name = file_type(type_name).name
    if part == "mmproj" and name not in (*PLAIN_TYPES, "q8_0"):
        raise UsageError(f"an mmproj file cannot be {name}", hint="--type bf16, f16, f32 or q8_0")
    if target is not None and require_file_target(target) and not force:
        raise UsageError(f"{target} exists", hint="add --force to replace it, or -o FILE")
    return name


def _choose_coder(
    name: str, part: PartName, folder: Path, threads: int | None
) -> tuple[GGMLType | None, Coder]:
    """Return the type in which tensors reach the coder (None: the checkpoint's), and the coder."""
    if name in PLAIN_TYPES:
        return ggml_type(name), PlainCoder(threads or 0)
    if part == "mmproj":
        return BF16, MmprojCoder(threads)
    recipe = Recipe(name, container="bf16") if name == "sfp8" else Recipe(name)
    return None, RecipeCoder(recipe, folder, threads)


def choose_target(folder: Path, type_name: str, part: PartName) -> Path:
    """Return the file name for a checkpoint: [mmproj-]gemma-4-E2B-it-Q4_0.gguf."""
    prefix = "mmproj-" if part == "mmproj" else ""
    return Path(f"{prefix}{model_name(folder) or 'model'}-{type_name.upper()}.gguf")

"""Quantize a GGUF file into another: header, plan, rows, encoder, writer.

`g4 quantize` and the store call `quantize_file`; the other modules of this package are its steps.
The target is replaced at the very end, so an error or an interruption leaves the old file as it
was.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import BadFile, BadGGUF, Interrupted, UsageError
from g4cli.core.files import require_file_target
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.gguf_values import Value, string_value
from g4cli.core.gguf_write import Written, create_gguf
from g4cli.core.hashing import sha256_of
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_command
from g4cli.core.split_name import parse_split_name
from g4cli.core.units import count_text
from g4cli.quant.encode import Counts, Job, one_block, open_encoder
from g4cli.quant.file_hash import FileHash
from g4cli.quant.imatrix import ImportanceMatrix, check_fits
from g4cli.quant.mixtures import ALIASES
from g4cli.quant.plan import choose_for_source
from g4cli.quant.provenance import SOURCE_SHA256, new_keys
from g4cli.quant.reader import Reader
from g4cli.quant.recipes import TYPES, Choice, Recipe, scale_spec, with_scales
from g4cli.quant.source import Source, open_source
from g4cli.quant.values import DIAGNOSE

# Stands in the header for the source's sha256, of the same length, until that is known at the end.
_SHA256_PLACEHOLDER: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class Quantized:
    """A finished file. `source_bytes` is the size of its source, of all parts.

    `sha256` is "" if it was not requested. `choices` says what happened to which tensor, `counts`
    to the weights of all.
    """

    path: Path
    type: str
    nbytes: int
    sha256: str
    seconds: float
    source_bytes: int
    choices: tuple[Choice, ...]
    counts: Counts

    def as_json(self) -> dict[str, Any]:
        """Return the facts that scripts may rely on."""
        return {
            "path": str(self.path),
            "type": self.type,
            "bytes": self.nbytes,
            "seconds": round(self.seconds, 3),
            "sha256": self.sha256,
            "source_bytes": self.source_bytes,
            "tensors_by_type": self.tensors_by_type(),
            "zero_blocks": self.counts.zero_blocks,
            "clamped": self.counts.n_clamped,
            "underflows": self.counts.n_underflow,
        }

    def tensors_by_type(self) -> dict[str, int]:
        """Return how many tensors have each type in the new file."""
        names = [choice.type.name for choice in self.choices]
        return {name: names.count(name) for name in sorted(set(names))}

    def list_notes(self) -> list[str]:
        """Return a sentence about each kind of event: fallbacks, zero blocks, clamped weights."""
        notes = []
        fallbacks = [c for c in self.choices if c.obstacle]
        if fallbacks:
            types = " or ".join(sorted({c.type.name for c in fallbacks}))
            notes.append(
                f"{count_text(len(fallbacks), 'tensor')} became {types} "
                f"instead, for example {fallbacks[0].name}: {fallbacks[0].obstacle}"
            )
        if n := self.counts.zero_blocks:
            notes.append(f"{count_text(n, 'block', 'contain')} only zeros (harmless)")
        if n := self.counts.n_clamped:
            notes.append(f"{count_text(n, 'weight', 'were')} clamped to SFP8's largest value")
        if n := self.counts.n_underflow:
            notes.append(f"{count_text(n, 'weight', 'were')} too small for SFP8 and became zero")
        return notes


def default_target(source: Path, type_name: str) -> Path:
    """Return the path in the folder of `source` with the last type in its name replaced.

    For example m-BF16.gguf becomes m-Q4_0.gguf; a name without a type gets one. The target of a
    split file is one file.
    """
    split = parse_split_name(source.name)
    stem = split.stem if split else source.name.removesuffix(".gguf")
    known = "|".join(sorted((*TYPES, *ALIASES), key=len, reverse=True))
    types = list(re.finditer(rf"(?<![a-z0-9])({known})(?![a-z0-9])", stem, re.IGNORECASE))
    if not types:
        return source.with_name(f"{stem}-{type_name.upper()}.gguf")
    start, end = types[-1].span()
    new = type_name.lower() if stem[start:end].islower() else type_name.upper()
    return source.with_name(f"{stem[:start]}{new}{stem[end:]}.gguf")


def check_target(source: Path, target: Path, *, force: bool) -> None:
    """Raise UsageError if `target` is no file, is the source, or exists without `force`."""
    if not require_file_target(target):
        return
    if source.exists() and target.samefile(source):
        raise UsageError(f"{target} is the source itself", hint="name another file")
    if not force:
        raise UsageError(f"{target} exists", hint="add --force to replace it, or name another file")


def quantize_file(
    source: Path,
    target: Path,
    *,
    recipe: Recipe,
    progress: Progress = no_progress,
    force: bool = False,
    allow_requantize: bool = False,
    imatrix: ImportanceMatrix | None = None,
    threads: int | None = None,
    source_sha256: str | None = None,
    hashed: bool = True,
) -> Quantized:
    """Return the finished file `target`: the weights of `source` in the types of `recipe`.

    The header records the sha256 of the source: `source_sha256` if it is known and the source one
    file, else it is computed during encoding and written at the end. `hashed` computes that of the
    target too. `force` replaces a target that exists, `allow_requantize` takes a source that is
    quantized. Raises UsageError, BadGGUF, BadFile (NaN or infinite weights), NoSpace, Interrupted
    (Ctrl-C); a target that existed before is then unchanged.
    """
    started = time.perf_counter()
    opened = open_source(source)
    for part in opened.paths:
        check_target(part, target, force=force)
    if len(opened.paths) > 1:
        source_sha256 = None  # that of the first part alone
    choices = choose_for_source(opened, recipe, allow_requantize=allow_requantize)
    shapes = {tensor.name: tensor.shape for tensor in opened.tensors.values()}
    weights = check_fits(imatrix, shapes) if imatrix else None
    keys = new_keys(
        opened.path,
        opened.keys,
        recipe,
        source_sha256=source_sha256 or _SHA256_PLACEHOLDER,
        sfp8_tensors=tuple(c.name for c in choices if c.rounds),
        imatrix_keys=imatrix.provenance_keys() if imatrix else None,
    )
    with (
        _explain_errors(source, target),
        open_encoder(recipe, threads=threads, imatrix=weights) as encode,
    ):
        pieces = encode.encode_jobs(_make_jobs(opened, choices, recipe))
        specs = with_scales(choices, recipe)
        unhashed = () if source_sha256 else opened.paths
        written = _write_file(
            target, keys, specs, pieces, progress, unhashed=unhashed, hashed=hashed
        )
    return Quantized(
        path=target,
        type=recipe.type,
        nbytes=written.nbytes,
        # A header that was changed at the end belongs to the hash: all is hashed again.
        sha256=written.sha256 or (sha256_of(target) if hashed else ""),
        seconds=time.perf_counter() - started,
        source_bytes=opened.nbytes,
        choices=choices,
        counts=encode.counts,
    )


@contextmanager
def _explain_errors(source: Path, target: Path) -> Iterator[None]:
    """Name the source in errors about its weights; say what an interruption leaves behind."""
    try:
        yield
    except BadGGUF:
        raise  # it names its file itself
    except BadFile as err:
        hint = shell_command("g4", "doctor", source) if err.hint == DIAGNOSE else err.hint
        raise BadFile(f"{source}: {err}", hint=hint) from err
    except KeyboardInterrupt:
        kept = f"{target} was not changed" if target.is_file() else "nothing was kept"
        raise Interrupted(f"interrupted; {kept}", hint="run the same command again") from None


def _write_file(
    target: Path,
    keys: Mapping[str, Value],
    specs: Sequence[TensorSpec],
    pieces: Iterable[memoryview],
    progress: Progress,
    *,
    unhashed: Sequence[Path],
    hashed: bool,
) -> Written:
    """Return the finished file; the hash of the files `unhashed`, if any, goes into its header.

    `hashed` asks for the hash of the new file, which is left out if its header changes at the end.
    """
    with (
        create_gguf(
            target, keys, specs, progress=progress, hashed=hashed and not unhashed
        ) as writer,
        closing(FileHash(unhashed)) as hashing,
    ):
        for piece in pieces:
            writer.write(piece)
            hashing.allow_share(writer.nbytes / writer.total)
        if unhashed:
            writer.change_keys({**keys, SOURCE_SHA256: string_value(hashing.wait_for_digest())})
        return writer.finish()


def _make_jobs(source: Source, choices: Sequence[Choice], recipe: Recipe) -> Iterator[Job]:
    """Yield a job for each tensor of `with_scales(choices, recipe)`, in this order."""
    reader = Reader(source)
    for choice in choices:
        copy = not choice.changes and choice.name not in source.coded
        rows = reader.copy_rows(choice.name) if copy else reader.decode_rows(choice.name)
        yield Job(choice.spec, rows, copy=copy)
        if choice.rounds and recipe.is_archive:
            yield Job(scale_spec(choice.spec), one_block)

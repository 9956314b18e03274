"""The expansion of SFP8 archives into files that llama.cpp can run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from g4cli.core.errors import UsageError
from g4cli.core.files import open_file
from g4cli.core.gguf import read_header
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_word
from g4cli.quant.file import Quantized, quantize_file
from g4cli.quant.recipes import Recipe
from g4cli.quant.sfp8_archive import is_archive
from g4cli.quant.source import open_source


def make_runnable(
    path: Path,
    cache: Path,
    *,
    container: Literal["bf16", "q8_0"] = "bf16",
    progress: Progress = no_progress,
) -> Path:
    """Return a file that llama.cpp can run: `path`, or the expansion of an SFP8 archive in `cache`.

    The expansion is written only once: its name holds a hash of the archive's size and header,
    which names source and recipe. Raises what `expand_archive` raises.
    """
    header = read_header(path)
    if not is_archive(header):
        return path
    # 12 hexadecimal digits distinguish the archives of one cache: 48 bits.
    with open_file(path) as file:
        digest = hashlib.sha256(file.read(header.data_offset))
    digest.update(str(header.file_size).encode())
    target = cache / f"{path.stem}-{digest.hexdigest()[:12]}-{container}.gguf"
    if not target.is_file():
        expand_archive(path, target, container=container, progress=progress)
    return target


def expand_archive(
    source: Path,
    target: Path,
    *,
    container: Literal["bf16", "q8_0"] = "bf16",
    progress: Progress = no_progress,
    force: bool = False,
    threads: int | None = None,
    source_sha256: str | None = None,
) -> Quantized:
    """Return the finished file `target`: the SFP8 archive `source` in a type that llama.cpp runs.

    `container` is that type: `bf16` holds the archive's values exactly; `q8_0` takes half the space
    and adds a rounding error 45 dB below the values. Raises UsageError if `source` is not an
    archive, and what `quantize_file` raises.
    """
    if not open_source(source).coded:
        raise UsageError(f"{source} is not an SFP8 archive", hint=f"g4 show {shell_word(source)}")
    return quantize_file(
        source,
        target,
        recipe=Recipe(container),
        progress=progress,
        force=force,
        allow_requantize=True,
        threads=threads,
        source_sha256=source_sha256,
    )

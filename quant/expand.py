"""The expansion of SFP8 archives into files that llama.cpp can run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from g4cli.core.files import open_file
from g4cli.core.gguf import read_header
from g4cli.core.progress import Progress, no_progress
from g4cli.quant.file import quantize_file
from g4cli.quant.recipes import Recipe
from g4cli.quant.sfp8_archive import is_archive


def make_runnable(
    path: Path,
    cache: Path,
    *,
    container: Literal["bf16", "q8_0"] = "bf16",
    progress: Progress = no_progress,
) -> Path:
    """Return a file that llama.cpp can run: `path`, or the expansion of an SFP8 archive in `cache`.

    `container` is the type of the expansion: `bf16` holds the archive's values exactly; `q8_0`
    takes half the space and adds a rounding error 45 dB below the values. The expansion is written
    only once: its name holds a hash of the archive's size and header, which names source and
    recipe. Raises what `quantize_file` raises.
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
        recipe = Recipe(container)
        quantize_file(path, target, recipe=recipe, progress=progress, allow_requantize=True)
    return target

"""What the checks look at, read once: the header, samples of the data, what a child process saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from g4cli.core.errors import BadGGUF
from g4cli.core.files import require_file
from g4cli.core.gguf import Header, read_header
from g4cli.core.shape import Shape, shape_of
from g4cli.doctor.child import ProbeResult, greedy_probe
from g4cli.doctor.weights_scan import TensorStats, scan

Depth: TypeAlias = Literal["quick", "default", "deep"]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file. What could not be read is None and `fault` or `shape_fault` says why.

    `stats` is empty and `probe` None where they were not asked for (--quick) or cannot be had.
    """

    path: str
    size: int
    head: bytes
    header: Header | None = None
    fault: BadGGUF | None = None
    shape: Shape | None = None
    shape_fault: BadGGUF | None = None
    depth: Depth = "default"
    stats: tuple[TensorStats, ...] = ()
    probe: ProbeResult | None = None


def gather(path: Path, depth: Depth = "default") -> FileFacts:
    """Return the facts about the file at `path`. Raises FileMissing or UsageError (a directory) only."""
    path = require_file(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
    try:
        header = read_header(path, check_data=False)
    except BadGGUF as fault:
        return FileFacts(str(path), size, head, fault=fault, depth=depth)
    shape, shape_fault = None, None
    try:
        shape = shape_of(header)
    except BadGGUF as fault:
        shape_fault = fault
    stats: tuple[TensorStats, ...] = ()
    probe = None
    if depth != "quick":
        stats = scan(header, full=depth == "deep")
        if shape is not None and header.tensors and header.data_end <= size:
            probe = greedy_probe(path)
    return FileFacts(str(path), size, head, header, None, shape, shape_fault, depth, stats, probe)

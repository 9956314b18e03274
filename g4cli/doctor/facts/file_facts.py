"""What the checks look at, read once: the header, samples of the data, what a child process saw."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from g4cli.core.errors import BadGGUF, NotGGUF
from g4cli.core.file_kind import FileKind, kind_of
from g4cli.core.files import open_file, require_file
from g4cli.core.gguf import read_header
from g4cli.core.gguf_header import Header
from g4cli.core.other_files import checkpoint_folder_hint
from g4cli.core.progress import Progress, no_progress
from g4cli.core.shape import Shape, shape_of
from g4cli.doctor.checks.engine_bugs import RISKY
from g4cli.doctor.checks.hashes import Hashes, read_hashes
from g4cli.doctor.checks.keys import claimed
from g4cli.doctor.checks.tokenizer import Vocabulary, read_vocabulary
from g4cli.doctor.facts.duplicates import equal_tensors
from g4cli.doctor.facts.tensor_scan import TensorStats, read_vectors, scan
from g4cli.doctor.probe.child import ProbeResult, ask_child
from g4cli.doctor.probe.tokenizer import Tokenized, tokenize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from g4cli.doctor.probe.compare import FrameRun, Variant

Depth: TypeAlias = Literal["quick", "default", "deep"]

JUDGED: Final[frozenset[str]] = frozenset(
    ("text-model", "vocabulary", "sfp8-archive", "draft-model", "mmproj")
)
"""The kinds whose keys, tokenizer and weights g4 can judge; of the others it judges the format."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file. What could not be read is None and `fault` or `shape_fault` says why.

    What was not asked for (--quick, --only) or cannot be had is empty or None. `expected` are the answers, or
    words of them, to the prompts of `probe`; `model_name` is the size that the shape comes nearest to;
    `backends` is what the engine says about itself. `kind` is '' where the header cannot be read.
    """

    path: str
    size: int
    head: bytes
    kind: FileKind | Literal[""] = ""
    header: Header | None = None
    fault: BadGGUF | None = None
    shape: Shape | None = None
    shape_fault: BadGGUF | None = None
    depth: Depth = "default"
    model_name: str = ""
    is_chat_model: bool = False
    vocabulary: Vocabulary | None = None
    stats: tuple[TensorStats, ...] = ()
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    tokenized: Tokenized | None = None
    probe: ProbeResult | None = None
    probe_skipped: str = ""
    expected: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    frames: tuple[FrameRun, ...] = ()
    hashes: Hashes | None = None
    is_sparse: bool = False
    backends: Mapping[str, Any] = field(default_factory=dict)
    copies: tuple[tuple[str, str], ...] = ()

    @property
    def untrained(self) -> bool:
        """Return whether the norms are all near 1 on average, as nobody's training leaves them."""
        means = [
            # Numbers at the end of float32, as in damaged files, must not overflow their sum.
            float(v.mean(dtype="f8"))
            for n, v in self.vectors.items()
            if n.endswith("norm.weight") and v.size >= 16
        ]
        return bool(means) and all(abs(m - 1) < 0.15 for m in means) and len(set(means)) > 1


def gather(
    path: Path,
    depth: Depth = "default",
    *,
    talk: bool = True,
    only: tuple[str, ...] = (),
    progress: Progress = no_progress,
) -> FileFacts:
    """Return the facts about the file at `path` that the checks in `only` need (none named: all).

    Without `talk` llama.cpp is never asked. `progress` counts tensors, then ways to run the file. Raises
    FileMissing or UsageError (a directory, no permission), whatever the file holds. A folder with a Hugging
    Face checkpoint is a file of another kind.
    """
    if hint := checkpoint_folder_hint(path):
        folder = NotGGUF(path, "a folder with a Hugging Face checkpoint", hint=hint)
        return FileFacts(str(path), 0, b"", fault=folder, depth=depth)
    path = require_file(path)
    with open_file(path) as file:
        head = file.read(4096)
        size = os.fstat(file.fileno()).st_size
    try:
        header = read_header(path, check_data=False)
    except BadGGUF as fault:
        return FileFacts(str(path), size, head, fault=fault, depth=depth)
    facts = with_header(str(path), size, head, header, depth)
    return facts if depth == "quick" else _with_data(facts, path, talk, only, progress)


def with_header(path: str, size: int, head: bytes, header: Header, depth: Depth) -> FileFacts:
    """Return the facts that a header alone gives."""
    shape, shape_fault = None, None
    try:
        shape = shape_of(header)
    except BadGGUF as fault:
        shape_fault = fault
    name = claimed(shape)
    return FileFacts(
        path,
        size,
        head,
        kind_of(header),
        header,
        None,
        shape,
        shape_fault,
        depth,
        name,
        _is_chat(header, name),
        read_vocabulary(header),
    )


def _is_chat(header: Header, name: str) -> bool:
    """Return whether the file is an instruction-tuned model, which cannot do without a template."""
    words = [
        str(v.data).lower()
        for k in ("general.finetune", "general.name", "general.basename")
        if (v := header.keys.get(k)) is not None
    ]
    return name == "tiny" or any(w == "it" or w.endswith("-it") or "instruct" in w for w in words)


def _named(only: tuple[str, ...], *ids: str) -> bool:
    """Return whether one of the checks (or families) in `ids` is to run."""
    return not only or any(o == i or o.split(".")[0] == i for o in only for i in ids)


def _with_data(
    facts: FileFacts, path: Path, talk: bool, only: tuple[str, ...], progress: Progress
) -> FileFacts:
    header = facts.header
    assert header is not None
    deep, whole = facts.depth == "deep", header.data_end <= facts.size
    if facts.kind not in JUDGED:
        wanted = _named(only, "file", "file.hash")
        return replace(facts, hashes=read_hashes(path, deep=deep)) if wanted else facts
    stats = scan(header, full=deep, progress=progress) if _named(only, "weights") else ()
    facts = replace(
        facts,
        stats=stats,
        copies=equal_tensors(header, stats),
        vectors=read_vectors(header),
        is_sparse=getattr(path.stat(), "st_blocks", facts.size) * 512 < facts.size / 4,
        hashes=read_hashes(path, deep=deep) if _named(only, "file", "file.hash") else None,
    )
    if not talk or facts.shape is None:
        return facts
    vocabulary = facts.vocabulary
    if vocabulary is not None and vocabulary.n_tokens > 107 and whole and _named(only, "tokenizer"):
        facts = replace(facts, tokenized=tokenize(path, vocabulary.n_tokens))
    if _named(only, "tensors", "tensors.lore") and any(
        t.type.name in RISKY for t in header.tensors.values()
    ):
        facts = replace(facts, backends=ask_child({"task": "backends"}).event("backends") or {})
    if not (header.tensors and whole and _named(only, "probe")):
        return facts
    from g4cli.doctor.probe.run import talked

    return talked(facts, path, progress)

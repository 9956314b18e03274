"""What the checks look at, read once: the header, samples of the data, what a child process saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from g4cli.core.errors import BadGGUF
from g4cli.core.files import require_file
from g4cli.core.gguf import Header, read_header
from g4cli.core.shape import Shape, shape_of
from g4cli.core.units import GIB, size_text
from g4cli.doctor.child import (
    QUESTIONS,
    ProbeResult,
    Tokenized,
    Variant,
    greedy_probe,
    tokenize,
    try_variants,
)
from g4cli.doctor.hashes import Hashes, read_hashes
from g4cli.doctor.memory import available_bytes
from g4cli.doctor.metadata import claimed
from g4cli.doctor.vocabulary import Vocabulary, read_vocabulary
from g4cli.doctor.weights_scan import TensorStats, read_vectors, scan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Depth: TypeAlias = Literal["quick", "default", "deep"]

# Larger files are asked to talk only with --deep: minutes on a CPU.
_TALKS: Final = 8 * GIB


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file. What could not be read is None and `fault` or `shape_fault` says why.

    What was not asked for (--quick) or cannot be had is empty or None. `expected` are the answers, or words
    of them, to the prompts of `probe`; `model_name` is the size that the shape comes nearest to.
    """

    path: str
    size: int
    head: bytes
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
    hashes: Hashes | None = None
    is_sparse: bool = False

    @property
    def untrained(self) -> bool:
        """Return whether the norms are all near 1 on average, as nobody's training leaves them."""
        means = [
            float(v.mean()) for n, v in self.vectors.items() if n.endswith("norm.weight") and v.size >= 16
        ]
        return bool(means) and all(abs(m - 1) < 0.15 for m in means) and len(set(means)) > 1


def gather(path: Path, depth: Depth = "default", *, talk: bool = True) -> FileFacts:
    """Return the facts about the file at `path`; without `talk` llama.cpp is never asked.

    Raises FileMissing or UsageError (a directory), whatever the file holds.
    """
    path = require_file(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
    try:
        header = read_header(path, check_data=False)
    except BadGGUF as fault:
        return FileFacts(str(path), size, head, fault=fault, depth=depth)
    facts = with_header(str(path), size, head, header, depth)
    return facts if depth == "quick" else _with_data(facts, path, talk)


def with_header(path: str, size: int, head: bytes, header: Header, depth: Depth) -> FileFacts:
    """Return the facts that a header alone gives."""
    shape, shape_fault = None, None
    try:
        shape = shape_of(header)
    except BadGGUF as fault:
        shape_fault = fault
    name = claimed(shape)
    return FileFacts(
        path, size, head, header, None, shape, shape_fault, depth, name, _is_chat(header, name),
        read_vocabulary(header),
    )  # fmt: skip


def _is_chat(header: Header, name: str) -> bool:
    """Return whether the file is an instruction-tuned model, which cannot do without a template."""
    words = [str(v.data).lower() for k in ("general.finetune", "general.name", "general.basename")
             if (v := header.keys.get(k)) is not None]  # fmt: skip
    return name == "tiny" or any(w == "it" or w.endswith("-it") or "instruct" in w for w in words)


def _with_data(facts: FileFacts, path: Path, talk: bool) -> FileFacts:
    from dataclasses import replace

    header, vocabulary = facts.header, facts.vocabulary
    assert header is not None
    whole = header.data_end <= facts.size
    tokenized = None
    if talk and vocabulary is not None and vocabulary.n_tokens > 107 and facts.shape is not None and whole:
        tokenized = tokenize(path, vocabulary.n_tokens)
    facts = replace(
        facts,
        stats=scan(header, full=facts.depth == "deep"),
        vectors=read_vectors(header),
        is_sparse=getattr(path.stat(), "st_blocks", facts.size) * 512 < facts.size / 4,
        hashes=read_hashes(path, deep=facts.depth == "deep"),
        tokenized=tokenized,
    )
    if not talk or facts.shape is None or not header.tensors or not whole:
        return facts
    free = available_bytes()
    if free and facts.size > 0.9 * free:
        return replace(
            facts, probe_skipped=f"{size_text(facts.size)} do not fit into {size_text(free)} of memory"
        )
    if facts.size > _TALKS and facts.depth != "deep":
        return replace(facts, probe_skipped=f"{size_text(facts.size)} take minutes: only with --deep")
    if facts.stats and all(s.all_zero for s in facts.stats):
        return replace(facts, probe_skipped="there is no data")
    return _talk(facts, path)


def _talk(facts: FileFacts, path: Path) -> FileFacts:
    from dataclasses import replace

    from g4cli.doctor.bundled import questions
    from g4cli.doctor.probes import is_suspicious

    asked = questions(6) if facts.model_name == "tiny" else QUESTIONS
    prompts = tuple(q for q, _ in asked)
    probe = greedy_probe(path, prompts)
    facts = replace(facts, probe=probe, expected=tuple(a for _, a in asked))
    if probe.runs and (facts.depth == "deep" or is_suspicious(facts)):
        return replace(facts, variants=try_variants(path, prompts[0], probe.runs[0], has_gpu=probe.has_gpu))
    return facts

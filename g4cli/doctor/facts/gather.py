"""Read the facts that a file alone gives: header, hashes, statistics of its data.

`diagnose.py` calls `gather_facts` first, and then lets llama.cpp add what only running tells.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from g4cli.core.errors import BadGGUF, G4Error, NotGGUF
from g4cli.core.file_kind import kind_of
from g4cli.core.files import open_file, require_file
from g4cli.core.gguf import read_header
from g4cli.core.gguf_header import Header
from g4cli.core.other_files import checkpoint_folder_hint
from g4cli.core.progress import Progress, no_progress
from g4cli.core.shape import shape_of
from g4cli.doctor.facts.duplicates import find_equal_tensors
from g4cli.doctor.facts.file_facts import JUDGED_KINDS, Depth, FileFacts
from g4cli.doctor.facts.hashes import read_hashes
from g4cli.doctor.facts.tensor_scan import read_vectors, scan_tensors
from g4cli.doctor.facts.vocabulary import read_vocabulary
from g4cli.doctor.reference import find_model_name
from g4cli.doctor.report import is_requested

# GGUF files of the folder whose headers are read, at most: a choice, so that a folder of hundreds
# costs no time.
_MAX_NEIGHBORS: Final = 12


def gather_facts(
    path: Path,
    depth: Depth = "default",
    *,
    only: tuple[str, ...] = (),
    progress: Progress = no_progress,
) -> FileFacts:
    """Return the facts about the file at `path` that the checks in `only` need, or all.

    `progress` names each step and counts tensors. Whatever is wrong with the content of the file
    becomes a fact and is not raised. A folder with a Hugging Face checkpoint gets the fault of
    another kind of file. Raises FileMissing, and UsageError for another folder or a file that
    cannot be opened.
    """
    if hint := checkpoint_folder_hint(path):
        folder = NotGGUF(path, "a folder with a Hugging Face checkpoint", hint=hint)
        return FileFacts(str(path), 0, fault=folder, depth=depth)
    path = require_file(path)
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
    try:
        header = read_header(path, check_data=False)
    except BadGGUF as fault:
        return FileFacts(str(path), size, fault=fault, depth=depth)
    facts = facts_of_header(str(path), size, header, depth)
    return facts if depth == "quick" else _add_data_facts(facts, header, path, only, progress)


def facts_of_header(path: str, size: int, header: Header, depth: Depth) -> FileFacts:
    """Return the facts that a header alone gives, about a file of `size` bytes."""
    shape, shape_fault = None, None
    try:
        shape = shape_of(header)
    except BadGGUF as fault:
        shape_fault = fault
    name = find_model_name(shape)
    return FileFacts(
        path,
        size,
        kind=kind_of(header),
        header=header,
        shape=shape,
        shape_fault=shape_fault,
        depth=depth,
        model_name=name,
        is_chat_model=_is_chat_model(header, name),
        vocabulary=read_vocabulary(header),
    )


def _is_chat_model(header: Header, name: str) -> bool:
    """Return whether the file says that it is an instruction-tuned model ("it" in Gemma's names).

    `name` is g4's name of the model; its `tiny` is one, without saying so in its header.
    """
    words = [
        str(v.data).lower()
        for k in ("general.finetune", "general.name", "general.basename")
        if (v := header.keys.get(k)) is not None
    ]
    return name == "tiny" or any(w == "it" or w.endswith("-it") or "instruct" in w for w in words)


def _add_data_facts(
    facts: FileFacts, header: Header, path: Path, only: tuple[str, ...], progress: Progress
) -> FileFacts:
    """Return `facts` with what the file at `path` holds after its header, as `only` needs it."""
    deep = facts.depth == "deep"
    if is_requested(only, "file.hash"):
        progress(0, 0, "sha256 of the file")
        facts = replace(facts, hashes=read_hashes(path, deep=deep))
    if facts.kind not in JUDGED_KINDS:
        return facts
    if is_requested(only, "mmproj.pair"):
        facts = replace(facts, neighbors=_read_neighbors(path))
    judges_weights = is_requested(only, "weights")
    stats = scan_tensors(header, full=deep, progress=progress) if judges_weights else ()
    progress(0, 0, "equal tensors")
    # POSIX counts blocks of 512 bytes; Windows does not count them, so there no file is sparse.
    bytes_on_disk = getattr(path.stat(), "st_blocks", facts.size) * 512
    return replace(
        facts,
        stats=stats,
        equal_tensors=find_equal_tensors(header, stats),
        vectors=read_vectors(header),
        is_sparse=bytes_on_disk < facts.size / 4,  # a choice
    )


def _read_neighbors(path: Path) -> tuple[Header, ...]:
    """Return the headers of the first other GGUF files in the folder that can be read."""
    headers = []
    for other in [
        p for p in sorted(path.parent.glob("*.gguf"))[:_MAX_NEIGHBORS] if p.name != path.name
    ]:
        try:
            header = read_header(other, check_data=False)
        except (G4Error, OSError):
            continue
        if "general.architecture" in header.keys:
            headers.append(header)
    return tuple(headers)

"""Does the file hold the tensors that its shape demands, no more and no less?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from g4cli.core.inventory import OUTPUT, text_tensors
from g4cli.core.shape import Shape
from g4cli.doctor.report import Check, Outcome, counted, fail, ok, skipped

if TYPE_CHECKING:
    from g4cli.doctor.facts.file_facts import FileFacts

RECONVERT: Final = "get another file (g4 pull MODEL) or convert it again (g4 convert DIR)"
_TOWERS: Final = ("v.", "a.", "mm.")
_PART: Final = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


def check_tied(facts: FileFacts) -> Outcome:
    """Gemma 4 reads its answer through the embeddings: an output matrix of its own is foreign."""
    if facts.header is None or facts.shape is None:
        return skipped("no Gemma 4 header")
    if OUTPUT in facts.header.tensors:
        return fail(
            f"{OUTPUT} is in the file: Gemma 4 ties its output to token_embd.weight, no published file has "
            "one, and llama.cpp uses it instead without a warning",
            RECONVERT,
            cause="conversion-defect",
            confidence="high",
        )
    return ok("output tied to the embeddings")


def check_inventory(facts: FileFacts) -> Outcome:
    """Compare names and shapes with the table of the shape that the keys claim."""
    header, shape = facts.header, facts.shape
    if header is None or shape is None:
        return skipped("no Gemma 4 header")
    if not header.tensors:
        return skipped("a vocabulary file: it has no tensors")
    if "split.count" in header.keys and int(header.get("split.count", int, 0)) > 1:
        return skipped("one part of several: the other parts hold the rest")
    towers = [n for n in header.tensors if n.startswith(_TOWERS)]
    if towers:
        return fail(
            f"{counted(len(towers), 'tensor')} of the vision or audio tower beside the text model: a blob of "
            "Ollama, which llama.cpp does not load",
            "g4 pull MODEL gets the plain GGUF and its mmproj",
            cause="conversion-defect",
            detail=tuple(towers),
        )
    wanted = {t.name: t.shape for t in text_tensors(shape)}
    optional = unused_kv(shape) | _replaced(header.tensors.keys())
    missing = [name for name in wanted if name not in header.tensors and name not in optional]
    extra = [
        n for n in header.tensors if n not in wanted and n != OUTPUT and not _SEPARATE.search(n)
    ]
    other = [
        f"{name} is {list(t.shape)}, expected {list(wanted[name])}"
        for name, t in header.tensors.items()
        if name in wanted and t.shape != wanted[name]
    ]
    if not (missing or extra or other):
        return ok(f"{len(header.tensors)} tensors, names and shapes as the keys demand")
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({_some(missing)})")
    if extra:
        parts.append(f"{len(extra)} that do not belong ({_some(extra)})")
    if other:
        parts.append(f"{len(other)} of the wrong shape ({other[0]})")
    return fail(
        "tensors: " + ", ".join(parts) + ": not the network that was trained",
        RECONVERT,
        cause="conversion-defect",
        detail=(*missing, *extra, *other),
    )


def check_parts(facts: FileFacts) -> Outcome:
    """A model in several files needs all of them, side by side."""
    header = facts.header
    if header is None or "split.count" not in header.keys:
        return skipped("a model in one file")
    count, number = int(header.get("split.count", int, 0)), int(header.get("split.no", int, 0))
    if count <= 1:
        return ok("one part of one")
    path = Path(facts.path)
    match = _PART.search(path.name)
    if not match:
        return fail(
            f"part {number + 1} of {count}, but its name does not say so: llama.cpp finds no other part",
            f"mv {path.name} MODEL-{number + 1:05d}-of-{count:05d}.gguf",
            cause="file-damaged",
        )
    stem = path.name[: match.start()]
    names = [f"{stem}-{i + 1:05d}-of-{count:05d}.gguf" for i in range(count)]
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        return fail(
            f"{len(missing)} of {count} parts are missing: {_some(missing)}",
            "fetch the missing parts into the same folder",
            cause="file-damaged",
            detail=tuple(missing),
        )
    return ok(f"part {number + 1} of {count}, all parts are there")


# Separate expert matrices instead of the fused one, fused attention: legitimate other conversions.
_SEPARATE: Final = re.compile(r"^blk\.\d+\.(ffn_(gate|up)_exps|attn_qkv)\.weight$")


def _replaced(names: Iterable[str]) -> frozenset[str]:
    """Return the wanted tensors that another layout of the same weights replaces."""
    found: set[str] = set()
    for name in names:
        match = _SEPARATE.search(name)
        if match:
            block = name.rsplit(".", 2)[0]
            gone = ("attn_q", "attn_k", "attn_v") if "attn_qkv" in name else ("ffn_gate_up_exps",)
            found |= {f"{block}.{g}.weight" for g in gone}
    return frozenset(found)


def unused_kv(shape: Shape) -> frozenset[str]:
    """Return the K and V tensors of layers that read another layer's cache: files may leave them out."""
    return frozenset(
        f"blk.{layer}.{suffix}.weight"
        for layer in range(shape.n_layer_kv, shape.n_layer)
        for suffix in ("attn_k", "attn_v", "attn_k_norm")
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:2]) + (" ..." if len(names) > 2 else "")


CHECKS: Final = (
    Check("tensors.tied", check_tied),
    Check("tensors.inventory", check_inventory),
    Check("tensors.parts", check_parts),
)

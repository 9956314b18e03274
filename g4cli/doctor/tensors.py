"""Does the file hold the tensors that its shape demands, no more and no less?"""

from __future__ import annotations

from typing import Final

from g4cli.core.inventory import OUTPUT, text_tensors
from g4cli.core.shape import Shape
from g4cli.doctor.facts import FileFacts
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped

RECONVERT: Final = "get another file (g4 pull MODEL) or convert it again (g4 convert DIR)"


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
    wanted = {t.name: t.shape for t in text_tensors(shape)}
    unused = unused_kv(shape)
    missing = [name for name in wanted if name not in header.tensors and name not in unused]
    extra = [name for name in header.tensors if name not in wanted and name != OUTPUT]
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
        "tensors: " + ", ".join(parts),
        RECONVERT,
        cause="conversion-defect",
        detail=(*missing, *extra, *other),
    )


def unused_kv(shape: Shape) -> frozenset[str]:
    """Return the K and V tensors of layers that read another layer's cache: files may leave them out."""
    return frozenset(
        f"blk.{layer}.{suffix}.weight"
        for layer in range(shape.n_layer_kv, shape.n_layer)
        for suffix in ("attn_k", "attn_v", "attn_k_norm")
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:2]) + (" ..." if len(names) > 2 else "")


CHECKS: Final = (Check("tensors.tied", check_tied), Check("tensors.inventory", check_inventory))

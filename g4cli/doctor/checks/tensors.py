"""Checks of the tensor list: names, shapes, tied output, split files, types with known bugs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from g4cli.core.gguf_values import find_data
from g4cli.core.hub_address import is_on_hub
from g4cli.core.inventory import OUTPUT, text_tensors, unused_kv
from g4cli.core.shape import Shape
from g4cli.core.split_name import list_parts, name_part, parse_split_name
from g4cli.core.units import count_text
from g4cli.doctor.checks.advice import GET_PLAIN_GGUF, RECONVERT
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.known_faults import KnownFault, find_release, find_type_faults
from g4cli.doctor.report import (
    WORST_FIRST,
    Check,
    Outcome,
    fail,
    ok,
    skipped,
    warn,
)

# Names of tensors of an mmproj begin so: vision, audio, projectors (clip-impl.h of llama.cpp).
_ENCODER_PREFIXES: Final = ("v.", "a.", "mm.")


def check_tied(facts: FileFacts) -> Outcome:
    """Fail for an output matrix: in Gemma 4 the token embeddings are the output matrix too."""
    if facts.shape is None:
        return skipped("no Gemma 4 header")
    if OUTPUT in facts.tensors:
        return fail(
            f"{OUTPUT} is in the file: Gemma 4 ties its output to token_embd.weight, no published "
            "file has one, and llama.cpp uses it instead without a warning",
            RECONVERT,
            cause="conversion-defect",
            confidence="high",
        )
    return ok("output tied to the embeddings")


def check_inventory(facts: FileFacts) -> Outcome:
    """Compare names and shapes of the tensors with those that the keys demand."""
    tensors, shape = facts.tensors, facts.shape
    if shape is None:
        return skipped("no Gemma 4 header")
    if why := find_reason_not_compared(facts):
        return skipped(why)
    encoders = [n for n in tensors if n.startswith(_ENCODER_PREFIXES)]
    if encoders:
        return fail(
            f"{count_text(len(encoders), 'tensor')} of an image or audio encoder in the file of "
            "a text model: a blob of Ollama, which llama.cpp does not load",
            GET_PLAIN_GGUF,
            cause="conversion-defect",
            detail=tuple(encoders),
        )
    wanted = _wanted_shapes(shape, tensors.keys())
    optional = unused_kv(shape)
    missing = [name for name in wanted if name not in tensors and name not in optional]
    extra = [n for n in tensors if n not in wanted and n != OUTPUT]
    other = [
        f"{name} is {list(t.shape)}, expected {list(wanted[name])}"
        for name, t in tensors.items()
        if name in wanted and t.shape != wanted[name]
    ]
    if not (missing or extra or other):
        return ok(f"{len(tensors)} tensors with the names and shapes that the keys demand")
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({_first_names(missing)})")
    if extra:
        parts.append(f"{len(extra)} that do not belong ({_first_names(extra)})")
    if other:
        parts.append(f"{len(other)} of the wrong shape ({other[0]})")
    return fail(
        "tensors: " + ", ".join(parts) + ": this is not the network that was trained",
        RECONVERT,
        cause="conversion-defect",
        detail=(*missing, *extra, *other),
    )


def find_reason_not_compared(facts: FileFacts) -> str:
    """Return why the tensors of a file cannot be compared with what its keys demand, or ''."""
    if _read_split_number(facts, "count") > 1:
        return "one part of a split file: the other parts hold the rest"
    return "" if facts.tensors else "a vocabulary file has no tensors"


def _read_split_number(facts: FileFacts, name: str) -> int:
    """Return the number under `split.NAME`, "count" or "no" (from 0); 0 if there is none."""
    return find_data(facts.keys, f"split.{name}", int) or 0


def check_parts(facts: FileFacts) -> Outcome:
    """Fail if parts of a split file are missing from its folder."""
    if "split.count" not in facts.keys:
        return skipped("not a split file")
    count, number = _read_split_number(facts, "count"), _read_split_number(facts, "no")
    if count <= 1:
        return ok("the only part")
    if is_on_hub(facts.path):
        return skipped("only this part's header was read, and no other file on the hub")
    path = Path(facts.path)
    part = parse_split_name(path.name) if path.suffix == ".gguf" else None
    if part is None or (part.number, part.total) != (number + 1, count):
        return fail(
            f"part {number + 1} of {count}, but its name does not say so: "
            "llama.cpp does not load it",
            f"mv FILE FOLDER/{name_part('NAME', number + 1, count)}",
            cause="file-damaged",
        )
    missing = [name for name in list_parts(path.name) if not path.with_name(name).is_file()]
    if missing:
        return fail(
            f"{count_text(len(missing), 'part', 'are', of=count)} missing: {_first_names(missing)}",
            "download the missing parts into the same folder",
            cause="file-damaged",
            detail=tuple(missing),
        )
    return ok(f"part {number + 1} of {count}, and all parts are there")


def _wanted_shapes(shape: Shape, names: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of each tensor that the keys demand of a file with `names`.

    Other converters divide the fused expert matrices and fuse those of attention: llama.cpp loads
    both (load_arch_tensors, src/models/gemma4.cpp, llama.cpp@0c1e57098).
    """
    wanted = {t.name: t.shape for t in text_tensors(shape)}
    for layer in (f"blk.{i}" for i in range(shape.n_layer)):
        fused = f"{layer}.ffn_gate_up_exps.weight"
        divided = [f"{layer}.ffn_{part}_exps.weight" for part in ("gate", "up")]
        if fused in wanted and fused not in names and any(name in names for name in divided):
            n_embd, width, n_expert = wanted.pop(fused)
            wanted |= dict.fromkeys(divided, (n_embd, width // 2, n_expert))
        if f"{layer}.attn_qkv.weight" in names:
            n_embd, q_width = wanted.pop(f"{layer}.attn_q.weight")
            _, kv_width = wanted.pop(f"{layer}.attn_k.weight")
            wanted.pop(f"{layer}.attn_v.weight", None)  # K and V are one where K = V
            wanted[f"{layer}.attn_qkv.weight"] = (n_embd, q_width + 2 * kv_width)
    return wanted


def _first_names(names: list[str]) -> str:
    return ", ".join(names[:2]) + (" ..." if len(names) > 2 else "")


def check_engine_bug(facts: FileFacts) -> Outcome:
    """Compare the tensor types, and the installed llama.cpp, with the table of known faults."""
    types = {t.type.name for t in facts.tensors.values()}
    outcomes = [
        _judge_fault(fault, backend, types, facts)
        for fault in find_type_faults(types)
        for backend in fault.backends
    ]
    worst_first = sorted(outcomes, key=lambda outcome: WORST_FIRST.index(outcome.status))
    return worst_first[0] if worst_first else ok("no tensor type with a known bug of llama.cpp")


def _judge_fault(fault: KnownFault, backend: str, types: set[str], facts: FileFacts) -> Outcome:
    """Return whether the llama.cpp here has a fault that concerns this file."""
    what = (
        f"{', '.join(sorted(types & fault.tensor_types))} tensors: llama.cpp built with {backend} "
        f"{fault.release} computes them wrongly ({fault.symptom_text})"
    )
    advice = f"{fault.workaround}, or a file of another type"
    advice += "" if facts.is_other_model else ": g4 pull MODEL:q4_0"
    release = find_release(backend, facts.backends)  # "" if unknown, None without that backend
    if release == fault.release:
        return fail(
            f"{what}, and that is the build here", advice, cause="runtime", confidence="high"
        )
    if release:
        return ok(f"{what}; the one here uses {backend} {release}")
    if release == "":
        return warn(f"{what}; which {backend} the one here uses is unknown", advice)
    if not facts.backends:
        return warn(what, advice)
    return warn(f"{what}; the one here has no {backend}, those in other programs may", advice)


CHECKS: Final = (
    Check("tensors.tied", check_tied),
    Check("tensors.inventory", check_inventory),
    Check("tensors.parts", check_parts),
    Check("tensors.engine-bug", check_engine_bug),
)

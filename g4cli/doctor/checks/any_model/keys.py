"""Checks of the keys: llama.cpp knows the architecture, and the numbers are possible."""

from __future__ import annotations

from typing import Final

from g4cli.core.file_kind import kind_text, text_key
from g4cli.core.gguf_header import Header
from g4cli.core.gguf_values import Array, find_data
from g4cli.doctor.checks.advice import GET_ANOTHER, UPDATE_ENGINE
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.probe.child import UNKNOWN_ARCHITECTURE
from g4cli.doctor.report import Check, Outcome, fail, ok, warn

_MAX_LAYERS: Final = 4096  # a choice: of a longer array the first numbers are enough


def check_architecture(facts: FileFacts) -> Outcome:
    """Name the network, and warn if this llama.cpp does not know it."""
    assert facts.header is not None
    name = text_key(facts.header, "general.architecture")
    if not name:
        return fail(
            "general.architecture is missing: no program can tell which network this is",
            GET_ANOTHER,
            cause="conversion-defect",
        )
    if facts.has_unknown_architecture:
        return Outcome(
            "warn",
            f"this llama.cpp does not know the architecture {name!r}: it cannot run the file, and "
            "nothing is known about its tokenizer and its answers",
            UPDATE_ENGINE,
            code=UNKNOWN_ARCHITECTURE,
        )
    return ok(kind_text(facts.header))


def check_shape(facts: FileFacts) -> Outcome:
    """Fail for numbers that no network can have, and for keys that contradict each other."""
    header = facts.header
    assert header is not None
    prefix = text_key(header, "general.architecture")
    bad = []
    for name in ("block_count", "embedding_length", "context_length"):
        numbers = _numbers_under(header, f"{prefix}.{name}")
        wrong = [n for n in numbers if not 0 < n < 1 << 32]
        if wrong:
            bad.append(f"{prefix}.{name} is {wrong[0]}")
    heads = _numbers_under(header, f"{prefix}.attention.head_count")
    kv_heads = _numbers_under(header, f"{prefix}.attention.head_count_kv")
    # One number stands for all layers.
    n_layers = max(len(heads), len(kv_heads))
    heads, kv_heads = (n * n_layers if len(n) == 1 else n for n in (heads, kv_heads))
    # Each KV head serves the same number of query heads (grouped-query attention).
    for n_heads, n_kv in zip(heads, kv_heads, strict=False):
        if n_kv > 0 and n_heads % n_kv:
            bad.append(f"{n_heads} heads cannot share {n_kv} KV heads")
            break
    experts = _numbers_under(header, f"{prefix}.expert_count")
    used = _numbers_under(header, f"{prefix}.expert_used_count")
    if experts and used and used[0] > experts[0]:
        bad.append(f"{used[0]} experts are used for a token, but there are {experts[0]}")
    if bad:
        return fail("; ".join(bad), GET_ANOTHER, cause="conversion-defect", detail=tuple(bad))
    if not any(key.startswith(f"{prefix}.") for key in header.keys):
        return warn(f"there are no keys of the architecture {prefix!r}")
    return ok("the numbers are possible and agree with each other")


def _numbers_under(header: Header, key: str) -> list[int | float]:
    """Return the number under `key`, or those of an array (one per layer); [] without any."""
    data = find_data(header.keys, key, object)
    if isinstance(data, Array):
        return data.first_items(_MAX_LAYERS) if data.item_type.name != "STRING" else []
    return [data] if isinstance(data, int | float) else []


CHECKS: Final = (
    Check("keys.architecture", check_architecture),
    Check("keys.shape", check_shape),
)

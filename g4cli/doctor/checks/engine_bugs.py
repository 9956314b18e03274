"""Types of weights that a released engine computed wrongly, and whether that engine is the one at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

if TYPE_CHECKING:
    from g4cli.doctor.facts.file_facts import FileFacts

# What CUDA 13.2's compiler miscompiles (llama.cpp #28581, PR #28784): gibberish from these types.
RISKY: Final = frozenset(("IQ1_S", "IQ2_S", "IQ3_S", "IQ3_XXS"))
BAD_CUDA: Final = "13.2"
_OTHER_BUILD: Final = (
    "use a build with CUDA 13.1, 13.3 or later, or a file of another type: g4 pull MODEL:q4_0"
)


def cuda_of(backends: Mapping[str, Any]) -> str | None:
    """Return the CUDA release of the engine, '' if it has CUDA and does not say which, None without CUDA."""
    if "CUDA" not in backends.get("backends", {}):
        return None
    return str(backends.get("cuda", {}).get("runtime", ""))


def check_lore(facts: FileFacts) -> Outcome:
    """Say whether the file's types are among those that a known engine gets wrong."""
    if facts.header is None:
        return skipped("the header cannot be read")
    risky = sorted({t.type.name for t in facts.header.tensors.values()} & RISKY)
    if not risky:
        return ok("no type that a known engine gets wrong")
    cuda, what = cuda_of(facts.backends), f"{', '.join(risky)} tensors"
    known = f"engines built with CUDA {BAD_CUDA} compute them wrongly"
    if cuda == BAD_CUDA:
        return fail(
            f"{what}, and the engine here runs CUDA {cuda}, which computes them wrongly",
            _OTHER_BUILD,
            cause="runtime",
            confidence="high",
        )
    if cuda:
        return ok(f"{what}: {known}; the engine here runs CUDA {cuda}")
    if cuda == "":
        return warn(
            f"{what}: {known}, and the engine here does not say which CUDA it has", _OTHER_BUILD
        )
    if not facts.backends:
        return warn(f"{what}: {known}", _OTHER_BUILD)
    return warn(
        f"{what}: {known}; the engine here has no CUDA, others (LM Studio, Ollama) may",
        _OTHER_BUILD,
    )


CHECKS: Final = (Check("tensors.lore", check_lore),)

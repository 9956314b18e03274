"""The best type of a model for this machine: `g4 pull MODEL --fit`."""

from __future__ import annotations

from typing import Final

# Best first. Q4_0 stands before Q4_K_M because Google's is trained for it (QAT).
ORDER: Final = ("bf16", "q8_0", "q6_k", "q5_k_m", "q4_0", "q4_k_m")


def best_fitting(text: str) -> tuple[str, str]:
    """Return `MODEL:TYPE` for the best published type that fits now, and the reason.

    Raises UnknownModel, UsageError (a type was given, or the model is bundled), NoMemory if none fits.
    """
    from g4cli.cli.subjects import from_registry, memories_of, run_options
    from g4cli.core.errors import NoMemory, UsageError
    from g4cli.core.registry import parse_name
    from g4cli.fit import report
    from g4cli.host import probe

    ref = parse_name(text)
    if ref.chosen:
        raise UsageError(
            f"{text} names a type already; --fit chooses one", hint=f"g4 pull {ref.model.name} --fit"
        )
    host = probe()
    memories = memories_of(host)
    types = ref.model.published_types or ref.model.types
    refused = ""
    for type_name in (t for t in ORDER if t in types):
        subject = from_registry(f"{ref.model.name}:{type_name}")
        options = run_options(host, subject)
        found = report(subject.shape, subject.tensors, options, memories, choose="")
        if found.verdict.fits:
            reason = f"{type_name}: the best that fits with {found.context_reason}; {found.verdict.reason}"
            return f"{ref.model.name}:{type_name}", reason + (f" ({refused})" if refused else "")
        refused = f"{type_name} does not: {found.verdict.reason}"
    raise NoMemory(
        f"no type of {ref.model.name} fits this machine; {refused}", hint=f"g4 fit {ref.model.name}"
    )

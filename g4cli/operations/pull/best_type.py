"""The best type of a model for this machine: `g4 pull MODEL --fit`. It is the one that `g4 fit` points at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from g4cli.fit import Advice

# A type that holds the first is taken before one that holds only the next.
_CONTEXTS: Final = (32768, 8192, 4096)


def best_fitting(text: str) -> tuple[str, str]:
    """Return `MODEL:TYPE` for the type to take here, of those that are published, and the reason.

    Raises UnknownModel, UsageError (a type was given, or the model is bundled), NoMemory if none fits.
    """
    from g4cli.core.errors import NoMemory, UsageError
    from g4cli.core.registry import parse_name

    ref = parse_name(text)
    name = ref.model.name
    if ref.chosen:
        raise UsageError(
            f"{text} names a type already; --fit chooses one", hint=f"g4 pull {name} --fit"
        )
    for n_ctx in sorted({min(n, ref.model.shape.n_ctx_train) for n in _CONTEXTS}, reverse=True):
        advice = _advice(name, n_ctx)
        if advice.best:
            return f"{name}:{advice.best}", advice.reason
    raise NoMemory(f"no type of {name} fits this machine; {advice.reason}", hint=f"g4 fit {name}")


def _advice(name: str, n_ctx: int) -> Advice:
    """Return the published types of the model `name`, ranked for this machine."""
    from g4cli.core.registry import find_model
    from g4cli.host import probe
    from g4cli.operations.fit.drafting import with_guesses
    from g4cli.operations.fit.ranking import RANKED, advice_for
    from g4cli.operations.fit.subject import from_registry, memories_of, run_options

    host, subject = probe(), from_registry(name)
    options = with_guesses(run_options(host, subject), subject, "auto")
    kinds = find_model(name).published_types or RANKED
    advice = advice_for(subject, options, memories_of(host), host, n_ctx, kinds)
    assert advice is not None  # a model by name has types
    return advice

"""The best type of a model for this machine: `g4 pull MODEL --fit`. It is the one that `g4 fit` points at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from g4cli.fit import TypeRanking

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
        ranking = _rank_types(name, n_ctx)
        if ranking.best:
            return f"{name}:{ranking.best}", ranking.reason
    raise NoMemory(f"no type of {name} fits this machine; {ranking.reason}", hint=f"g4 fit {name}")


def _rank_types(name: str, n_ctx: int) -> TypeRanking:
    """Return the published types of the model `name`, ranked for this machine."""
    from g4cli.core.registry import find_model
    from g4cli.host import probe
    from g4cli.operations.fit.drafting import add_drafting
    from g4cli.operations.fit.options import list_memories, make_run_options
    from g4cli.operations.fit.ranking import RANKED, rank_model_types
    from g4cli.operations.fit.subject import describe_model

    host, subject = probe(), describe_model(name)
    options = add_drafting(make_run_options(host, subject), subject, "auto")
    kinds = find_model(name).published_types or RANKED
    ranking = rank_model_types(subject, options, list_memories(host), host, n_ctx, kinds)
    assert ranking is not None  # a model by name has types
    return ranking

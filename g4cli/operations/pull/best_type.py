"""Choose the best published type of a model for this machine, for `g4 pull --fit`."""

from __future__ import annotations

from typing import Final

from g4cli.core.errors import NoMemory, UsageError
from g4cli.core.quoting import shell_command
from g4cli.core.registry import parse_name
from g4cli.host import read_host
from g4cli.operations.fit.options import list_memories, make_chat_options
from g4cli.operations.fit.ranking import RANKED, rank_model_types
from g4cli.operations.fit.subject import describe_model

# Choices, in tokens: a type that fits with a longer context is preferred to one that fits only with
# a shorter one. The last is the least that is of use in a chat.
_CONTEXTS: Final = (32768, 8192, 4096)


def choose_best_type(text: str) -> tuple[str, str]:
    """Return `MODEL:TYPE` with the best type for this machine, and the reason.

    It is a published one: others are made from the BF16 file, a large download. Only a model
    without published files, whose types are all made on this machine, gets the best of all. Raises
    UnknownModel, UsageError if `text` has a type, NoMemory if no type fits.
    """
    ref = parse_name(text)
    name, published = ref.model.name, ref.model.published_types
    if ref.chosen:
        raise UsageError(
            f"{text} already names a type, and --fit chooses one",
            hint=shell_command("g4", "pull", name, "--fit"),
        )
    host, subject = read_host(), describe_model(name)
    options = make_chat_options(host, subject)  # without the mmproj, which a chat loads when needed
    for n_ctx in sorted({min(n, ref.model.shape.n_ctx_train) for n in _CONTEXTS}, reverse=True):
        ranking = rank_model_types(
            subject, options, list_memories(host), host, n_ctx, published or RANKED
        )
        if ranking.best:
            return f"{name}:{ranking.best}", ranking.reason
    which = "no published type" if published else "no type"
    raise NoMemory(f"{which} of {name} fits this machine; {ranking.reason}", hint=f"g4 fit {name}")

"""What a shell completes: models, types, checks, conversations and presets.

Typer answers the shell (`g4 --install-completion`). Without a fitting word the shell completes
paths by itself. Bash splits words at colons, which names such as e2b:q4_0 have: `repair_bash_words`
joins them again, and only what follows the last colon is printed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, MutableMapping
from contextlib import redirect_stdout, suppress

from g4cli.core.config import PRESET_MARK, read_config
from g4cli.core.errors import G4Error
from g4cli.core.registry import MADE_TYPES, MODELS, known_names
from g4cli.core.visible import one_line

Completion = tuple[str, str]  # a word, and what it is: a shell may show it beside the word
_VARIABLE = "_G4_COMPLETE"  # Typer's, set by a shell that asks: "complete_bash", "complete_zsh" ...
_SEPARATORS = (":", "=")  # at which bash splits words (COMP_WORDBREAKS)
_MAX_CONVERSATIONS = 50  # a choice: more are not read in a list


def complete_pulled(incomplete: str) -> list[Completion]:
    """Return the models of the store, and their types after a colon, with what they are."""
    from g4cli.store.models import list_models

    with suppress(G4Error, OSError):
        entries = [entry for entry in list_models() if entry.role == "model"]
        names = {entry.name: "pulled" for entry in entries}
        labels = {entry.label: "pulled" for entry in entries}
        found = labels if ":" in incomplete.removeprefix("hf:") else names
        return _select({**found, **_list_aliases()}, incomplete)
    return []


def complete_model_or_preset(incomplete: str) -> list[Completion]:
    """Return what `g4 chat` and `g4 serve` take: models of the store, aliases, and @presets."""
    presets = {}
    with suppress(G4Error, OSError):
        presets = {f"{PRESET_MARK}{name}": "preset" for name in read_config().presets}
    return [*complete_pulled(incomplete), *_select(presets, incomplete)]


def complete_known(incomplete: str) -> list[Completion]:
    """Return every model that g4 knows, and after a colon its types."""
    name, colon, _ = incomplete.partition(":")
    titles = {model.name: model.title for model in MODELS}  # e2b-base is pre-trained only
    known = {word: titles.get(word, "pre-trained") for word in known_names()}
    if not colon:
        return _select({**known, **dict(complete_pulled(incomplete))}, incomplete)
    model = next((m for m in MODELS if m.name == name.removesuffix("-base")), None)
    if model is None:
        return complete_pulled(incomplete)
    published = () if name.endswith("-base") else model.published_types
    return _select(
        {f"{name}:{t}": "published" if t in published else "made here" for t in model.types},
        incomplete,
    )


def complete_type(incomplete: str) -> list[str]:
    """Return the types that `g4 quantize` and `g4 convert` make."""
    return [name for name in MADE_TYPES if name.startswith(incomplete)]


def complete_check(incomplete: str) -> list[str]:
    """Return what `g4 doctor --only` takes: ids and families of checks."""
    from g4cli.doctor.diagnose import known_ids

    known = known_ids() | known_ids(machine=True)
    return sorted(name for name in known if name.startswith(incomplete))


def complete_conversation(incomplete: str) -> list[Completion]:
    """Return the ids of the newest saved conversations with their titles, and "last"."""
    from g4cli.store.conversations.store import ConversationStore

    found: dict[str, str] = {"last": "the newest"}
    with suppress(G4Error, OSError), ConversationStore.open() as store:
        found |= {
            str(chat.id): one_line(chat.title)
            for chat in store.list_conversations(limit=_MAX_CONVERSATIONS)
        }
    return _select(found, incomplete)


def run_completion(
    run: Callable[[], int], environment: MutableMapping[str, str] = os.environ
) -> int:
    """Return the exit code of `run`, which is g4 itself; a shell that asks gets its completions.

    Typer prints them. For bash, the command line in `environment` is joined before where bash has
    split it at ":" and "="; afterwards the part of the current word up to its last split is removed
    from what is printed, since bash keeps it.
    """
    if environment.get(_VARIABLE) != "complete_bash":
        return run()
    kept_by_bash = repair_bash_words(environment)
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            return run()
    finally:
        for line in printed.getvalue().splitlines():
            print(line.removeprefix(kept_by_bash))


def is_completing(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Return whether a shell asks for completions."""
    return environment.get(_VARIABLE, "").startswith("complete_")


def repair_bash_words(environment: MutableMapping[str, str]) -> str:
    """Join in COMP_WORDS what bash has split.

    Returns the beginning of the current word that bash keeps when it inserts a completion.
    """
    words = environment.get("COMP_WORDS", "").split("\n")
    with suppress(ValueError):
        current = int(environment.get("COMP_CWORD", ""))
        joined, index = _join_words(words, current)
        environment["COMP_WORDS"] = "\n".join(joined)
        environment["COMP_CWORD"] = str(index)
        if index < len(joined):
            word = joined[index]
            return word[: max(word.rfind(mark) for mark in _SEPARATORS) + 1]
    return ""


def _join_words(words: list[str], current: int) -> tuple[list[str], int]:
    """Return the words without the splits at separators, and the index of the word `current`."""
    joined: list[str] = []
    joined_index = None  # the shell may name a word after the last: a new, empty one
    for index, word in enumerate(words):
        is_mark = word and all(c in _SEPARATORS for c in word)
        follows_mark = index > 0 and words[index - 1] and words[index - 1][-1] in _SEPARATORS
        # Bash lists the "@" of a preset apart, but replaces it with the rest of the word.
        follows_mark = follows_mark or joined[-1:] == [PRESET_MARK]
        if index > 1 and (is_mark or follows_mark):
            joined[-1] += word
        else:
            joined.append(word)
        if index == current:
            joined_index = len(joined) - 1
    return joined, len(joined) if joined_index is None else joined_index


def _list_aliases() -> dict[str, str]:
    return {name: f"alias of {model}" for name, model in read_config().aliases.items()}


def _select(known: dict[str, str], incomplete: str) -> list[Completion]:
    """Return the words of `known` that begin with `incomplete`, each with what it is."""
    return [(word, text) for word, text in known.items() if word.startswith(incomplete)]

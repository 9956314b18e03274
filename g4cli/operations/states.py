"""Saved states of prompts: where a model keeps them, and what is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g4cli.core.errors import NotFound, UsageError
from g4cli.runtime.engine.options import StateOptions
from g4cli.store.models import find_model_file
from g4cli.store.states.folder import Namespace, StateFolder
from g4cli.store.states.limits import choose_limit, states_dir
from g4cli.store.states.model_id import identify_model


def make_state_options(
    path: Path, name: str, state_cache: str, *, ram_bytes: int = 0
) -> StateOptions | None:
    """Return where the states of the model at `path` are saved; None if nowhere.

    `name` is what the user called it, `state_cache` the value of --state-cache. States may take
    `ram_bytes` of memory beside the disk, for `g4 serve`. Raises UsageError.
    """
    limit_bytes = choose_limit(state_cache)
    if not limit_bytes and not ram_bytes:
        return None
    return StateOptions(
        folder=states_dir(),
        limit_bytes=limit_bytes,
        model_id=identify_model(path),
        name=name,
        ram_bytes=ram_bytes,
    )


@dataclass(frozen=True, slots=True)
class SavedStates:
    """What `g4 list --states` shows: a namespace has the states of one model and its options."""

    folder: Path
    namespaces: tuple[Namespace, ...]

    @property
    def n_bytes(self) -> int:
        """Return what they take on the disk together."""
        return sum(namespace.n_bytes for namespace in self.namespaces)

    def as_json(self) -> dict[str, Any]:
        """Return the document of `g4 list --states --json`."""
        return {
            "folder": str(self.folder),
            "bytes": self.n_bytes,
            "states": [namespace.as_json() for namespace in self.namespaces],
        }


def list_states() -> SavedStates:
    """Return the saved states of this user, by model."""
    return SavedStates(states_dir(), StateFolder(states_dir(), limit_bytes=0).list_namespaces())


def select_states(model: str = "") -> SavedStates:
    """Return the saved states of a model, by its name or path; "" selects all.

    Raises NotFound if there are none.
    """
    saved = list_states()
    if not model:
        return saved
    try:
        path = str(find_model_file(model).path)
    except (NotFound, UsageError):
        path = model  # the model is gone: its states are known by what they were called
    chosen = tuple(n for n in saved.namespaces if path == n.about.file or model == n.about.model)
    if not chosen:
        raise NotFound(f"no saved states of {model}", hint="g4 list --states")
    return SavedStates(saved.folder, chosen)


def remove_states(saved: SavedStates) -> None:
    """Remove saved states from the disk. Raises UsageError if the system refuses."""
    StateFolder(saved.folder, limit_bytes=0).remove_namespaces(saved.namespaces)

"""Draw the saved states of prompts for `g4 list --states` and `g4 remove --states`."""

from __future__ import annotations

from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from g4cli.core.units import size_text

if TYPE_CHECKING:
    from g4cli.cli.output import Output
    from g4cli.operations.states import SavedStates

_HOLDS: Final = MappingProxyType({"prompts": "prompts", "media": "images, sounds"})


def draw_states(out: Output, saved: SavedStates) -> None:
    """Draw a row for each namespace (one model with one set of options), and the sum."""
    if not saved.namespaces:
        out.say("no saved states")
        return
    rows = [
        (
            namespace.about.model,
            _HOLDS[namespace.about.holds],
            namespace.about.kv_type,
            f"{namespace.n_states:,}",
            size_text(namespace.n_bytes),
            datetime.fromtimestamp(namespace.used_at).strftime("%Y-%m-%d %H:%M"),
        )
        for namespace in saved.namespaces
    ]
    out.table(["model", "holds", "kv", "states", "size", "last used"], rows, right=[3, 4])
    out.say(f"{size_text(saved.n_bytes)} in {saved.folder}")

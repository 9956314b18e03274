"""Draw what `g4 list` lists: files of the store and of other programs, what can be pulled, states.

`g4 remove --states` draws saved states too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from g4cli.core.units import size_text
from g4cli.store.manifest import describe_damage

if TYPE_CHECKING:
    from g4cli.cli.output import Output
    from g4cli.operations.fit.available import AvailableModel
    from g4cli.operations.states import SavedStates
    from g4cli.store.manifest import Entry
    from g4cli.store.others import ForeignModel

_HOLDS: Final = MappingProxyType({"prompts": "prompts", "media": "images, sounds"})


def draw_entries(out: Output, entries: tuple[Entry, ...]) -> None:
    """Draw a row for each file of the store."""
    rows = [
        (
            e.label if e.role == "model" else e.name,  # sidecars are named by their role
            e.role,
            size_text(e.nbytes),
            e.date[:10],
            describe_damage(e) or e.origin,
        )
        for e in entries
    ]
    out.table(["model", "kind", "size", "pulled", "from"], rows, right=[2])


def draw_foreign(out: Output, foreign: tuple[ForeignModel, ...]) -> None:
    """Draw the files of other programs, each with its path or why it cannot be used."""
    for row in foreign:
        out.line(f"{row.program}: {row.name}  {row.type}, {row.role}, {size_text(row.nbytes)}")
        out.line(f"  {row.note or row.path}")


def draw_available(out: Output, rows: Sequence[AvailableModel]) -> None:
    """Draw one line for each type of each model, and how to get one."""
    n_ctx = max(row.n_ctx for row in rows)
    table = [
        (
            row.name + (" (default)" if row.is_default else ""),
            row.title,
            size_text(row.download_bytes),
            "✓ fits" if row.fits else "✗ does not fit",
            "pulled" if row.is_here else "",
        )
        for row in rows
    ]
    out.table(("model", "", "size", f"with {n_ctx:,} tokens", ""), table, right=(2,))
    out.line("Each model also comes as a base model: e2b-base. Other types are made on this")
    out.line("machine: g4 pull MODEL:TYPE. Repositories on the hub: g4 pull OWNER/REPO.")
    out.say("to choose one: g4 fit")


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

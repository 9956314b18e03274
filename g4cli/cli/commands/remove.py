"""`g4 remove`: delete a model from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from g4cli.cli.options.common import JsonOpt, QuietOpt, StatesOpt, StoredModelArg, YesOpt
from g4cli.cli.output import Output, make_output
from g4cli.core.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from g4cli.store.manifest import Entry
    from g4cli.store.models import Unfinished


def remove(
    model: StoredModelArg = "",
    states: StatesOpt = False,
    yes: YesOpt = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Remove a model from the store, after asking for confirmation.

    A file that was pulled from a path on this disk is kept at that path. With
    --states, the saved states of prompts are removed and the model is kept;
    without MODEL, those of all models.

    \b
    Examples:
      g4 remove tiny:q4_0
      g4 remove e2b --yes     every file of e2b
      g4 remove --states      all saved states of prompts
    """
    out = make_output(as_json=json, quiet=quiet)
    if states:
        _remove_states(out, model, yes=yes)
        return
    if not model:
        raise UsageError("name the model to remove", hint="g4 remove MODEL, or g4 remove --states")
    from g4cli.core.units import count_text, size_text
    from g4cli.store.models import remove_entry, select_removable

    entries, unfinished = select_removable(model)
    total = sum(e.nbytes for e in entries) + sum(u.have_bytes for u in unfinished)
    for entry in entries:
        out.say(f"{entry.title}  {size_text(entry.nbytes)}  {entry.path}")
    for part in unfinished:
        out.say(f"{part.name}  {size_text(part.have_bytes)} of {part.file}, unfinished")
    chosen: tuple[Entry | Unfinished, ...] = (*entries, *unfinished)
    files = count_text(len(chosen), "file")
    if not yes and not out.confirm(f"Remove {files} ({size_text(total)})?"):
        out.say("nothing was removed")
        raise typer.Exit(Interrupted.exit_code)
    # The bytes of a hard link stay where the other name is.
    kept = sum(e.nbytes for e in entries if e.path.exists() and e.path.stat().st_nlink > 1)
    for item in chosen:
        remove_entry(item)
    names = ", ".join(dict.fromkeys([e.title for e in entries] + [u.file for u in unfinished]))
    data = {"removed": [item.as_json() for item in chosen], "bytes": total, "freed": total - kept}
    note = f"; {size_text(kept)} stay on the disk, under another name" if kept else ""
    out.result(data, lambda: out.line(f"removed {names}: {size_text(total - kept)} freed{note}"))


def _remove_states(out: Output, model: str, *, yes: bool) -> None:
    from g4cli.cli.views.list import draw_states
    from g4cli.core.units import size_text
    from g4cli.operations.states import remove_states, select_states

    saved = select_states(model)
    draw_states(out, saved)
    size = size_text(saved.n_bytes)
    if saved.namespaces and not yes and not out.confirm(f"Remove these states ({size})?"):
        out.say("nothing was removed")
        raise typer.Exit(Interrupted.exit_code)
    remove_states(saved)
    data = {"removed": saved.as_json()["states"], "bytes": saved.n_bytes}
    out.result(data, lambda: out.line(f"removed saved states: {size}"))

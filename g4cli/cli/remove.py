"""g4 remove: free the space of a model."""

from __future__ import annotations

from typing import Annotated

import typer

from g4cli.cli.options import JsonOpt, QuietOpt, YesOpt
from g4cli.cli.output import output_for


def remove(
    model: Annotated[
        str,
        typer.Argument(
            help="One type (e2b:q4_0), or all files of a model (e2b).", metavar="MODEL", show_default=False
        ),
    ],
    yes: YesOpt = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Remove a model from the store, after asking.

    A file that was pulled from a path on this disk stays where it was.

    \b
    Examples:
      g4 remove tiny:q4_0
      g4 remove e2b --yes     every file of e2b
    """
    out = output_for(as_json=json, quiet=quiet)
    from g4cli.core.units import size_text
    from g4cli.store.models import remove, select

    entries = select(model)
    total = sum(e.nbytes for e in entries)
    for entry in entries:
        out.say(f"{entry.label}  {size_text(entry.nbytes)}  {entry.path}")
    if not yes and not out.confirm(f"Remove {len(entries)} file(s), {size_text(total)}?"):
        out.say("nothing was removed")
        raise typer.Exit(130)
    for entry in entries:
        remove(entry)
    removed = [e.label for e in entries]
    data = {"removed": [e.as_json() for e in entries], "bytes": total}
    out.result(data, lambda: out.line(f"removed {', '.join(removed)}: {size_text(total)}"))

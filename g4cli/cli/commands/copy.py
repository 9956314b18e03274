"""`g4 copy`: a second name for a model of the store."""

from __future__ import annotations

from typing import Annotated

import typer

from g4cli.cli.options.common import JsonOpt, QuietOpt, StoredModelArg
from g4cli.cli.output import make_output


def copy(
    model: StoredModelArg,
    name: Annotated[str, typer.Argument(help="The new name.", metavar="NAME")],
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Give a model of the store a second name, with its mmproj and draft model.

    The files are hard links where the disk has them, and then take no space. The copy stays when
    the model is removed or pulled again.

    \b
    Examples:
      g4 copy e2b my-e2b
      g4 copy 31b:q4_0 big
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.store.adopt import copy_entries
    from g4cli.store.models import select_entries

    with out.progress(f"copy {model}") as progress:
        copies = copy_entries(select_entries(model), name, progress=progress)
    labels = [entry.label for entry in copies if entry.role == "model"]

    def render() -> None:
        for entry in copies:
            out.line(f"{entry.title}  {entry.path}")
        if labels:
            out.say(f"next: g4 chat {labels[0]}")

    out.result([entry.as_json() for entry in copies], render, brief=labels)

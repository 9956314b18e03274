"""`g4 list`: the models on this disk, and those that can be pulled."""

from __future__ import annotations

from typing import Annotated

import typer

from g4cli.cli.options.common import JsonOpt, QuietOpt, StatesOpt
from g4cli.cli.output import Output, make_output
from g4cli.core.errors import UsageError

AvailableOpt = Annotated[
    bool, typer.Option("--available", help="The models that can be pulled, and which of them fit.")
]


def list_(
    available: AvailableOpt = False,
    states: StatesOpt = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """List the models that were pulled, and those of other programs.

    Gemma 4 files in the Hugging Face cache and in the folders of LM Studio, llama.cpp and Ollama
    are listed with their paths. Every command that takes a MODEL also takes such a path.

    \b
    Examples:
      g4 list
      g4 list -q        names only, one per line
      g4 list --json
      g4 list --available   what can be pulled, with sizes
      g4 list --states  what the prompt cache holds
    """
    out = make_output(as_json=json, quiet=quiet)
    if states and available:
        raise UsageError("--available and --states cannot be used together")
    if states or available:
        (_list_states if states else _list_available)(out)
        return
    from g4cli.cli.views.list import draw_entries, draw_foreign
    from g4cli.core.units import size_text
    from g4cli.store.manifest import describe_damage
    from g4cli.store.models import list_models, list_unfinished
    from g4cli.store.others import list_foreign_models

    entries, unfinished = list_models(), list_unfinished()
    foreign = () if quiet else list_foreign_models()  # with --quiet none of them would be shown

    def render() -> None:
        if entries:
            draw_entries(out, entries)
        elif not unfinished:
            out.say("no models yet; to get one: g4 pull tiny")
        for part in unfinished:
            amount = f"{size_text(part.have_bytes)} of {size_text(part.nbytes)}"
            out.say(f"unfinished: {part.file}, {amount}; to resume: {part.resume_command}")
        if foreign:
            draw_foreign(out, foreign)

    data = {
        "models": [{"ref": e.title, **e.as_json(), "damage": describe_damage(e)} for e in entries],
        "unfinished": [u.as_json() for u in unfinished],
        "elsewhere": [f.as_json() for f in foreign],
    }
    out.result(data, render, brief=[e.label for e in entries if e.role == "model"])


def _list_available(out: Output) -> None:
    from g4cli.cli.views.list import draw_available
    from g4cli.operations.fit.available import list_available
    from g4cli.operations.fit.machine import find_machine

    rows = list_available(find_machine())
    data = {
        "models": [], "unfinished": [], "elsewhere": [],
        "available": [row.as_json() for row in rows],
    }  # fmt: skip
    out.result(data, lambda: draw_available(out, rows), brief=[row.name for row in rows])


def _list_states(out: Output) -> None:
    from g4cli.cli.views.list import draw_states
    from g4cli.operations.states import list_states

    saved = list_states()
    brief = list(dict.fromkeys(namespace.about.model for namespace in saved.namespaces))
    out.result(saved.as_json(), lambda: draw_states(out, saved), brief=brief)

"""g4 list: what is on this disk."""

from __future__ import annotations

from g4cli.cli.options import JsonOpt, QuietOpt
from g4cli.cli.output import output_for


def list_(json: JsonOpt = False, quiet: QuietOpt = False) -> None:
    """Show the models on this disk.

    \b
    Examples:
      g4 list
      g4 list -q        names only, one a line
      g4 list --json
    """
    out = output_for(as_json=json, quiet=quiet)
    from g4cli.core.units import size_text
    from g4cli.store.manifest import damage_of
    from g4cli.store.models import list_models

    entries = list_models()

    def render() -> None:
        if not entries:
            out.say("no models yet; start with: g4 pull tiny")
            return
        rows = [
            (e.label, e.role, size_text(e.nbytes), e.date[:10], damage_of(e) or e.source) for e in entries
        ]
        out.table(["model", "use", "size", "since", "from"], rows, right=[2])

    data = [{**e.as_json(), "damage": damage_of(e)} for e in entries]
    names = "\n".join(e.label for e in entries if e.role == "model")
    out.result(data, render, brief=names or None)

"""`g4 verify`: whether the files in the store are still what was pulled."""

from __future__ import annotations

import typer

from g4cli.cli.options.common import JsonOpt, QuietOpt, StoredModelArg
from g4cli.cli.output import make_output
from g4cli.core.errors import BadFile


def verify(model: StoredModelArg = "", json: JsonOpt = False, quiet: QuietOpt = False) -> None:
    """Compare the files in the store with the hashes recorded when they were pulled.

    Without MODEL, all files are compared. Exits with 5 if one has changed.

    \b
    Examples:
      g4 verify
      g4 verify e2b:q4_0
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.store.models import list_models, select_entries
    from g4cli.store.verify import describe_repair, verify_entry

    entries = select_entries(model) if model else list_models()
    done = []
    for entry in entries:
        with out.progress(f"verify {entry.title}") as progress:
            done.append(verify_entry(entry, progress=progress))
    wrong = [v for v in done if v.status == "wrong"]

    def render() -> None:
        if not done:
            out.say("no models yet; to get one: g4 pull tiny")
            return
        out.table(
            ["model", "file", "result", ""],
            [(v.entry.title, v.entry.path.name, v.status, v.detail) for v in done],
        )
        for verified in wrong:
            out.say(describe_repair(verified.entry))

    data = {"ok": not wrong, "files": [v.as_json() for v in done]}
    out.result(data, render, brief=[str(v.entry.path) for v in wrong])
    if wrong:
        raise typer.Exit(BadFile.exit_code)

"""g4 show: what a model file says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from g4cli.cli.options import JsonOpt, ModelArg, QuietOpt
from g4cli.cli.output import Output, output_for

if TYPE_CHECKING:
    from g4cli.core.gguf import Header
    from g4cli.store.models import Found


def show(
    model: ModelArg,
    full: Annotated[
        bool, typer.Option("--full", help="Every key; with --json also every item of long arrays.")
    ] = False,
    tensors: Annotated[bool, typer.Option("--tensors", help="List the tensors.")] = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Show what a model file says about itself.

    Reads the header alone. In JSON an array of more than 64 items is shortened to
    {"item_type", "count", "first"} unless --full is given.

    \b
    Examples:
      g4 show tiny
      g4 show model.gguf --tensors
      g4 show e2b --full --json | jq .keys
    """
    out = output_for(as_json=json, quiet=quiet)
    from g4cli.core.gguf import read_header
    from g4cli.store.describe import header_json
    from g4cli.store.models import find

    found = find(model)
    header = read_header(found.path)

    def render() -> None:
        _render_summary(out, header, found)
        if full:
            _render_keys(out, header)
        if tensors:
            _render_tensors(out, header)

    data = header_json(header, full=full) if out.mode == "json" else {}
    out.result(data, render, brief=header.path)


def _render_summary(out: Output, header: Header, found: Found) -> None:
    from g4cli.core.units import size_text
    from g4cli.store.describe import shares, summary

    for section in summary(header, found.entry):
        out.line(section.title, style="bold")
        for label, text in section.lines:
            out.line(f"  {label:<13} {text}")
    rows = [
        (s.type.name, s.n_tensors, f"{s.n_params:,}", size_text(s.nbytes), f"{s.share:.1%}")
        for s in shares(header)
    ]
    if rows:
        out.table(["type", "tensors", "weights", "size", "share"], rows, right=[1, 2, 3, 4])


def _render_keys(out: Output, header: Header) -> None:
    from g4cli.store.describe import key_text

    rows = [(name, value.type_name, key_text(value)) for name, value in header.keys.items()]
    out.table(["key", "type", "value"], rows)


def _render_tensors(out: Output, header: Header) -> None:
    rows = [
        (t.name, t.type.name, " x ".join(map(str, t.shape)), f"{t.nbytes:,}") for t in header.tensors.values()
    ]
    out.table(["tensor", "type", "shape", "bytes"], rows, right=[2, 3])

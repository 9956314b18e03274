"""`g4 show`: the metadata and tensors of a model file, or how two files differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from g4cli.cli.completion import complete_pulled
from g4cli.cli.options.common import JsonOpt, ModelArg, QuietOpt, expand_model
from g4cli.cli.output import Output, make_output
from g4cli.core.errors import UsageError

if TYPE_CHECKING:
    from g4cli.core.gguf_header import Header
    from g4cli.store.models import FoundModel


def show(
    model: ModelArg,
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="OTHER",
            help="With --diff: the model to compare with.",
            autocompletion=complete_pulled,
            callback=expand_model,
        ),
    ] = None,
    *,
    diff: Annotated[
        bool,
        typer.Option(
            "--diff", help="Compare with OTHER: keys, tensors, weights (reads both files)."
        ),
    ] = False,
    full: Annotated[
        bool,
        typer.Option("--full", help="Show all keys; with --json also all items of long arrays."),
    ] = False,
    tensors: Annotated[bool, typer.Option("--tensors", help="List the tensors.")] = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Show the metadata of a model file, and with options its keys and tensors.

    Only the header is read. In JSON, an array of more than 64 items is shortened to
    {"item_type", "count", "first"} unless --full is given.

    \b
    Examples:
      g4 show tiny
      g4 show model.gguf --tensors
      g4 show e2b --full --json | jq .keys
      g4 show --diff model-bf16.gguf model-q4_0.gguf
    """
    out = make_output(as_json=json, quiet=quiet)
    if diff or other:
        if not (diff and other):
            raise UsageError(
                "a comparison needs --diff and two models", hint="g4 show --diff BEFORE AFTER"
            )
        if full or tensors:
            option = "--full" if full else "--tensors"
            raise UsageError(f"--diff cannot be used with {option}", hint=f"g4 show MODEL {option}")
        _show_diff(out, model, other)
        return
    from g4cli.core.gguf import read_header
    from g4cli.store.describe import header_to_json
    from g4cli.store.models import find_model_file

    found = find_model_file(model)
    header = read_header(found.path)

    def render() -> None:
        _render_summary(out, header, found)
        if full:
            _render_keys(out, header)
        if tensors:
            _render_tensors(out, header)

    data = header_to_json(header, full=full) if out.mode == "json" else {}
    out.result(data, render, brief=header.path)


def _show_diff(out: Output, model: str, other: str) -> None:
    from g4cli.cli.views.quantize import draw_diff
    from g4cli.core.gguf import read_header
    from g4cli.core.gguf_diff import diff_headers
    from g4cli.quant.metrics import diff_files
    from g4cli.store.models import find_model_file

    before, after = find_model_file(model).path, find_model_file(other).path
    with out.progress(f"compare {before.name} and {after.name}") as progress:
        weights = diff_files(before, after, progress=progress)
    differences = diff_headers(read_header(before), read_header(after))

    def render() -> None:
        if differences:
            columns = ["differs", "name", before.name, after.name]
            out.table(columns, [d.row for d in differences], whole=(0, 1))
        draw_diff(out, weights)

    data = weights.as_json() | {"differences": [d.as_json() for d in differences]}
    out.result(data, render, brief=f"{weights.total.snr_db:.2f} dB")


def _render_summary(out: Output, header: Header, found: FoundModel) -> None:
    from g4cli.core.units import size_text
    from g4cli.store.describe import count_type_shares, summarize_header

    for section in summarize_header(header, found.entry):
        out.line(section.title, style="bold")
        for label, text in section.lines:
            out.line(f"  {label:<13} {text}")
    rows = [
        (s.type.name, s.n_tensors, f"{s.n_params:,}", size_text(s.nbytes), f"{s.share:.1%}")
        for s in count_type_shares(header)
    ]
    if rows:
        out.table(["type", "tensors", "weights", "size", "share"], rows, right=[1, 2, 3, 4])


def _render_keys(out: Output, header: Header) -> None:
    from g4cli.store.describe import format_value

    rows = [(name, value.type_name, format_value(value)) for name, value in header.keys.items()]
    out.table(["key", "type", "value"], rows)


def _render_tensors(out: Output, header: Header) -> None:
    rows = [
        (t.name, t.type.name, " x ".join(map(str, t.shape)), f"{t.nbytes:,}")
        for t in header.tensors.values()
    ]
    out.table(["tensor", "type", "shape", "bytes"], rows, right=[2, 3])

"""g4 pull: make sure that a model is on this disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from g4cli.cli.options import JsonOpt, QuietOpt
from g4cli.cli.output import Output, output_for

if TYPE_CHECKING:
    from g4cli.core.progress import Progress
    from g4cli.store.make import Pulled

ModelToPull = Annotated[
    str,
    typer.Argument(
        help="tiny, e2b, e2b:q8_0, a Hugging Face folder, or a GGUF.", metavar="MODEL", show_default=False
    ),
]
NameOpt = Annotated[
    str | None,
    typer.Option("--name", help="What to call a local folder or file.", show_default=False),
]


def pull(model: ModelToPull, name: NameOpt = None, json: JsonOpt = False, quiet: QuietOpt = False) -> None:
    """Get a model: by name, or from a folder or file on this disk.

    Without a type g4 takes the usual one: Q4_0 for Google's models (they were trained for it), BF16 for tiny
    (it is 8 MB: there is nothing to save).

    \b
    Examples:
      g4 pull tiny              the small model inside g4; needs no network
      g4 pull tiny:q4_0         the same, quantised
      g4 pull ~/my-finetune     a Hugging Face folder, converted to BF16
      g4 pull ~/model.gguf      a file, linked into the store
    """
    out = output_for(as_json=json, quiet=quiet)
    started = time.monotonic()
    with out.progress(f"pull {model}") as progress:
        pulled = _pull(model, name, progress)
    _show(out, pulled, time.monotonic() - started)


def _pull(text: str, name: str | None, progress: Progress) -> Pulled:
    from pathlib import Path

    from g4cli.core.errors import UsageError
    from g4cli.core.registry import looks_like_name, parse_name
    from g4cli.store.make import pull_bundled, pull_path

    if not looks_like_name(text) or text in (".", ".."):
        return pull_path(Path(text).expanduser(), name=name, progress=progress)
    if name:
        raise UsageError("--name is for local folders and files", hint=f"g4 pull {text}")
    return pull_bundled(parse_name(text), progress=progress)


def _show(out: Output, pulled: Pulled, seconds: float) -> None:
    from g4cli.core.units import duration_text, size_text

    entry = pulled.entry
    data = {**entry.as_json(), "seconds": round(seconds, 3), "new": pulled.is_new}

    def render() -> None:
        if pulled.is_new:
            out.line(f"{entry.label}  {size_text(entry.nbytes)} in {duration_text(seconds)}")
        else:
            out.line(f"{entry.label} is here already, {size_text(entry.nbytes)}")
        out.line(f"  {entry.path}")
        out.say(f"next: g4 chat {entry.label}")

    out.result(data, render, brief=str(entry.path))

"""`g4 pull`: download a model, or take one from this disk into the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from g4cli.cli.completion import complete_known
from g4cli.cli.options.common import JsonOpt, QuietOpt
from g4cli.cli.output import Output, make_output

if TYPE_CHECKING:
    from g4cli.store.make import Pulled

ModelToPull = Annotated[
    str,
    typer.Argument(
        help="tiny, e2b, e2b:q8_0, OWNER/REPO, a checkpoint folder, or a GGUF file.",
        metavar="MODEL",
        autocompletion=complete_known,
    ),
]
NameOpt = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="Name of the model in the store, for a local folder or file.",
    ),
]


def pull(
    model: ModelToPull,
    fit: Annotated[
        bool, typer.Option("--fit", help="Choose the best type that fits this machine.")
    ] = False,
    mmproj: Annotated[
        bool, typer.Option(help="Also get the mmproj (images and audio), if there is one.")
    ] = True,
    draft: Annotated[
        bool, typer.Option("--draft", help="Also get the draft model (speculative decoding).")
    ] = False,
    no_update: Annotated[
        bool,
        typer.Option(
            "--no-update", help="Do not look for a newer file if the model is on this disk."
        ),
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Work offline: use only local files.")
    ] = False,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Discard what was downloaded before, and start again."),
    ] = False,
    name: NameOpt = None,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Get a model: by name, from the Hugging Face hub, or from this disk.

    If the download is interrupted, run the same command again to resume it. A file gets its final
    name only after its sha256 was checked against the hub's. The default type is Q4_0 for Google's
    models, which were trained for it, and BF16 for tiny, which has only 8 MB.

    \b
    Examples:
      g4 pull tiny              the small model that comes with g4 (no network needed)
      g4 pull e2b               Google's Q4_0 file, and the mmproj for images and audio
      g4 pull 31b --fit         the best type that fits this machine
      g4 pull e2b:sfp8          not published: made on this machine from the BF16 file
      g4 pull hf:unsloth/gemma-4-E2B-it-GGUF:q6_k
      g4 pull ~/my-finetune     a Hugging Face folder, converted to BF16
      g4 pull ~/model.gguf      a file, linked into the store
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.operations.pull.plan import PullOptions
    from g4cli.operations.pull.run import pull_model

    started = time.monotonic()
    options = PullOptions(
        name=name,
        offline=offline,
        no_update=no_update,
        restart=restart,
        mmproj=mmproj,
        draft=draft,
    )
    reason = ""
    if fit:
        from g4cli.operations.pull.best_type import choose_best_type

        model, reason = choose_best_type(model)
        out.say(reason)
    _show_pulled(out, pull_model(model, options, out), time.monotonic() - started, reason)


def _show_pulled(out: Output, pulled: Pulled, seconds: float, reason: str) -> None:
    """Show the pulled model; `reason` says why --fit chose its type, "" without --fit."""
    from g4cli.core.units import duration_text, size_text

    entry = pulled.entry
    data = {**entry.as_json(), "seconds": round(seconds, 3), "new": pulled.is_new, "reason": reason}

    def render() -> None:
        if pulled.is_new:
            out.line(f"{entry.label}  {size_text(entry.nbytes)} in {duration_text(seconds)}")
        else:
            out.line(f"{entry.label} is already on this disk, {size_text(entry.nbytes)}")
        out.line(f"  {entry.path}")
        out.say(f"next: g4 chat {entry.label}")

    out.result(data, render, brief=str(entry.path))

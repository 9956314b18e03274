"""`g4 convert`: write a Hugging Face checkpoint as a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from g4cli.cli.completion import complete_type
from g4cli.cli.options.common import ForceOpt, JsonOpt, OutOpt, QuietOpt
from g4cli.cli.options.quantize import ThreadsOpt
from g4cli.cli.output import Output, make_output
from g4cli.core.paths import expand_home

if TYPE_CHECKING:
    from g4cli.converters import Converted
    from g4cli.converters.parts import PartName


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder with config.json and safetensors, or hf:OWNER/REPO.",
            metavar="DIR",
        ),
    ],
    target: OutOpt = None,
    *,
    type_name: Annotated[
        str,
        typer.Option(
            "--type",
            "-t",
            metavar="TYPE",
            autocompletion=complete_type,
            help="bf16, f16, f32, or a type of g4 quantize: q4_0, q8_0, sfp8, ...",
        ),
    ] = "bf16",
    mmproj: Annotated[
        bool,
        typer.Option(
            "--mmproj", help="Convert the image and audio encoders instead of the text network."
        ),
    ] = False,
    ignore_key: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Ignore this unknown key of config.json. Repeatable."),
    ] = None,
    force: ForceOpt = False,
    threads: ThreadsOpt = None,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Convert a Hugging Face checkpoint of Gemma 4 to GGUF, in one pass and in constant memory.

    In bf16, f16 and f32 the file equals the output of llama.cpp's converter byte for byte. In other
    types of llama.cpp (all but sfp8) its tensors equal those of the converter followed by
    llama-quantize; no large intermediate file is written.

    \b
    Examples:
      g4 convert ./gemma-4-E2B-it --type q4_0
      g4 convert ./gemma-4-E2B-it --mmproj
      g4 convert ./my-finetune -o mine-bf16.gguf
      g4 convert hf:google/gemma-4-E2B-it-qat-q4_0-unquantized --type q4_0
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.store.recode import check_request, convert_folder

    part: PartName = "mmproj" if mmproj else "text"
    type_name = check_request(
        type_name, part, target, force=force
    )  # before a checkpoint is fetched
    folder = _find_folder(source, out)
    with out.progress(f"convert to {type_name}") as progress:
        done = convert_folder(
            folder,
            target,
            type_name=type_name,
            part=part,
            ignore_keys=frozenset(ignore_key or ()),
            force=force,
            threads=threads,
            progress=progress,
        )
    data = {"path": str(done.path), "type": type_name, "part": part, **done.as_json()}
    out.result(data, lambda: _draw_result(out, done), brief=str(done.path))


def _find_folder(source: str, out: Output) -> Path:
    from g4cli.core.hub_address import as_address, is_on_hub

    source = as_address(source)
    if not is_on_hub(source):
        return expand_home(source)
    from g4cli.operations.pull.run import fetch_checkpoint

    return fetch_checkpoint(source, out)


def _draw_result(out: Output, done: Converted) -> None:
    from g4cli.core.file_kind import command_for
    from g4cli.core.gguf import read_header
    from g4cli.core.quoting import shell_word
    from g4cli.core.units import count_text, duration_text, rate_text, size_text

    types = ", ".join(f"{name} {size_text(nbytes)}" for name, nbytes in done.types.items())
    out.line(
        f"{done.path}  {size_text(done.nbytes)} in {duration_text(done.seconds)}"
        f" ({rate_text(done.nbytes / max(done.seconds, 1e-9))})"
    )
    out.line(f"  {count_text(done.n_tensors, 'tensor')}: {types}")
    for reason in sorted(set(done.ignored.values())):
        n = sum(r == reason for r in done.ignored.values())
        out.say(f"  {count_text(n, 'tensor')} left out: {reason}")
    command = command_for(read_header(done.path))
    out.say(f"next: {command} or g4 doctor {shell_word(done.path)}")

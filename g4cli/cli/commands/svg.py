"""`g4 svg`: check, repair, render and show drawings in files and answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from g4cli.cli.options.common import ForceOpt, JsonOpt, QuietOpt
from g4cli.cli.options.svg import FileArg, PictureArg, RepairedArg, WidthOpt
from g4cli.cli.output import make_output
from g4cli.core.errors import DoctorFailed

if TYPE_CHECKING:
    from g4cli.operations.svg import CheckedDrawing


def check(file: FileArg, json: JsonOpt = False, quiet: QuietOpt = False) -> None:
    """List the faults of a drawing, and which of them can be repaired.

    Of several drawings in an answer, the last complete one is checked. Exits with 0 if it has no
    faults and with 8 if it has; findings about style are not faults.

    \b
    Examples:
      g4 svg check drawing.svg
      g4 chat e2b -p "Draw a pelican as SVG." | g4 svg check -
      g4 svg check answer.txt --json
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.svg import draw_check, summarize_check

    checked = _check(file)
    out.result(
        checked.as_json(),
        lambda: draw_check(out, checked, repairs_made=False),
        brief=summarize_check(checked),
    )
    if not checked.is_flawless:
        raise typer.Exit(DoctorFailed.exit_code)


def fix(
    file: FileArg,
    out_file: RepairedArg = None,
    force: ForceOpt = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Repair a drawing so that it opens everywhere and does nothing but draw.

    Everything else stays as it is, byte for byte. Exits with 8 if a fault cannot be repaired; the
    drawing is written even then, with the other repairs.

    \b
    Examples:
      g4 svg fix answer.txt drawing.svg
      g4 chat e2b -p "Draw a pelican as SVG." | g4 svg fix - > drawing.svg
      g4 svg fix drawing.svg drawing.svg --force
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.svg import draw_check, summarize_check
    from g4cli.operations.svg import write_result

    checked = _check(file)
    text, written = checked.drawing.text, None
    if text is not None and out_file is not None:
        write_result(out_file, text.encode(), replace_file=force)
        written = str(out_file)
    if out_file is None and not json:
        out.write_xml(text or "")
        out.say(summarize_check(checked, repairs_made=True))
    else:
        data = checked.as_json() | {"svg": text, "path": written}
        out.result(data, lambda: draw_check(out, checked, repairs_made=True), brief=written)
    if not checked.is_repaired:
        raise typer.Exit(DoctorFailed.exit_code)


def png(
    file: FileArg,
    out_file: PictureArg,
    width: WidthOpt = None,
    force: ForceOpt = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Repair a drawing and render it as PNG.

    \b
    Examples:
      g4 svg png drawing.svg drawing.png
      g4 svg png answer.txt drawing.png --width 1024
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.operations.svg import render_drawing, write_result

    checked = _check(file)
    picture = render_drawing(checked.drawing, width=width)
    write_result(out_file, picture, replace_file=force)
    out.result(
        checked.as_json() | {"path": str(out_file)},
        lambda: out.say(f"wrote {out_file}"),
        brief=str(out_file),
    )


def show(file: FileArg, json: JsonOpt = False, quiet: QuietOpt = False) -> None:
    """Repair a drawing and show it in the terminal.

    kitty, WezTerm, Ghostty, Konsole and iTerm2 show it as a picture, other terminals as colored
    half blocks. Nothing is drawn if standard output is not a terminal.

    \b
    Examples:
      g4 svg show drawing.svg
      g4 chat e2b -p "Draw a pelican as SVG." | g4 svg show -
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.picture import show_picture
    from g4cli.cli.views.svg import summarize_check

    checked = _check(file)
    save = "g4 svg png FILE OUT"
    out.result(checked.as_json(), lambda: show_picture(out, checked.drawing, save_command=save))
    out.say(summarize_check(checked, repairs_made=True))
    if not checked.works:
        raise typer.Exit(DoctorFailed.exit_code)


def _check(file: str) -> CheckedDrawing:
    from g4cli.core.files import STANDARD_INPUT
    from g4cli.operations.svg import check_drawing, read_answer

    name = "standard input" if file == STANDARD_INPUT else file
    return check_drawing(read_answer(Path(file)), name)

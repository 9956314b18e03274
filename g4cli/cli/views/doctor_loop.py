"""Draw the experiments of `g4 doctor FILE --loop`: a row when one is done, then what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rich.cells import cell_len

from g4cli.cli.output import Output, Part
from g4cli.cli.views.table import fold_text
from g4cli.core.quoting import shell_word
from g4cli.core.units import count_text, duration_text
from g4cli.core.visible import one_line
from g4cli.doctor.known_faults import KnownFault
from g4cli.doctor.loop.outcome import LoopResult
from g4cli.doctor.loop.report import LoopDiagnosis, describe_fix, describe_result
from g4cli.doctor.loop.settings import describe_settings

_MARK: Final = {
    "loop": ("LOOP", "bold red"),
    "garbage": ("BAD", "bold red"),
    "failed": ("FAIL", "magenta"),
    "skipped": ("skip", "dim"),
    "ended": ("ok", "green"),
    "unended": ("ok", "green"),
}
# Columns: of the outcome and of the settings; the most that is shown of an answer, and the least.
_MARK_WIDTH: Final = 5
_SETTINGS_WIDTH: Final = 44
_MAX_TEXT: Final = 32
_MIN_TEXT: Final = 8
# A terminal with fewer columns has two lines for a row: the settings, and below them the answer.
_MIN_WIDTH: Final = 140
# More time for experiments that were not finished: four times as much, at least ten minutes.
_MORE_TIME: Final = 4
_MIN_MINUTES: Final = 10


def draw_experiment(out: Output, result: LoopResult, n_left: int, left_s: float) -> None:
    """Draw one row: outcome, settings, what the answer did, time; and how many are left."""
    mark, style = _MARK[result.outcome]
    head: Part = (f"{mark:<{_MARK_WIDTH}}", style)
    settings, became = describe_settings(result.settings), one_line(describe_result(result))
    text = (result.unit or result.text)[:_MAX_TEXT]
    quoted = f"  {text!r}" if text else ""
    took = f"  {duration_text(result.seconds)}" if result.outcome != "skipped" else ""
    time_left = f", {duration_text(left_s)}" if left_s >= 1 else ""
    left = f"  ({n_left} left{time_left})" if n_left else ""
    row = f"{settings:<{_SETTINGS_WIDTH}}  {became}"
    width = out.console().width
    if not out.is_terminal or (
        width >= _MIN_WIDTH and _MARK_WIDTH + cell_len(row + quoted + took + left) <= width
    ):
        out.line(head, row, (quoted + took + left, "dim"))
        return
    width -= _MARK_WIDTH
    for line in fold_text(settings + left, width):
        out.line(head, line)
        head = " " * _MARK_WIDTH
    room = width - cell_len(became + took) - len("  ")
    quoted = f"  {_shorten_quoted(text, room)}" if text and room >= _MIN_TEXT else ""
    for line in fold_text(became + quoted + took, width):  # one, but for a failure's long reason
        out.line(head, line)


def _shorten_quoted(text: str, width: int) -> str:
    """Return the beginning of `text` in quotation marks, in at most `width` columns."""
    while cell_len(one_line(repr(text))) > width:
        text = text[:-1]
    return repr(text)


def draw_loop_diagnosis(out: Output, diagnosis: LoopDiagnosis) -> None:
    """Draw the conclusion, the known faults that fit it, and what to do."""
    conclusion = diagnosis.conclusion
    heading = ("LOOP", "bold red") if conclusion.loops else ("NO LOOP", "bold green")
    if not conclusion.n_run or (conclusion.n_not_run and not conclusion.loops):
        heading = ("UNKNOWN", "bold yellow")
    effort = f"{count_text(conclusion.n_run, 'experiment')}, {duration_text(diagnosis.spent_s)}"
    out.line()
    out.line(
        heading,
        f"  {diagnosis.subject}: {conclusion.text}",
        (f"  ({effort})", "dim"),
    )
    for fault in conclusion.causes:
        _draw_cause(out, fault)
    out.line(f"next: {_advise(diagnosis)}", style="bold")


def _advise(diagnosis: LoopDiagnosis) -> str:
    """Return what to do next, with the name of the file quoted for a shell."""
    conclusion, file = diagnosis.conclusion, shell_word(Path(diagnosis.subject))
    if conclusion.causes:
        advice = conclusion.causes[0].workaround
    elif conclusion.n_not_run and not conclusion.conditions:
        minutes = max(_MIN_MINUTES, round(_MORE_TIME * diagnosis.budget_s / 60))
        advice = f"the same command with more time: --budget {minutes}m"
    elif conclusion.loops or not conclusion.n_run:
        advice = "g4 doctor FILE --deep; the same command with --report bug.md writes a bug report"
    else:
        advice = "the prompt at which it repeats itself: g4 doctor FILE --loop PROMPT"
    return advice.replace("OUT", "repaired.gguf").replace("FILE", file)


def _draw_cause(out: Output, fault: KnownFault) -> None:
    """Draw a known fault that fits: what it is, in which builds, and who reported it."""
    out.line(f"  fits: {fault.title}")
    out.line(f"        {fault.engine}: {fault.builds}; {describe_fix(fault)}")
    out.line(f"        {fault.source}", style="dim")

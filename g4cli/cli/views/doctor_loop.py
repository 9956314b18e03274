"""Draw the experiments of `g4 doctor FILE --loop`: a row when one is done, then what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from g4cli.cli.output import Output
from g4cli.core.quoting import shell_word
from g4cli.core.units import duration_text
from g4cli.doctor.known_faults import KnownFault
from g4cli.doctor.loop.outcome import LoopResult
from g4cli.doctor.loop.report import describe_fix, describe_result
from g4cli.doctor.loop.settings import describe_settings
from g4cli.operations.diagnose_loop import LoopDiagnosis

_MARK: Final = {
    "loop": ("LOOP", "bold red"),
    "garbage": ("BAD", "bold red"),
    "failed": ("FAIL", "magenta"),
    "skipped": ("skip", "dim"),
    "ended": ("ok", "green"),
    "unended": ("ok", "green"),
}
# Characters: the column of settings, and what is shown of an answer.
_SETTINGS_WIDTH: Final = 44
_MAX_TEXT: Final = 32
# More time for experiments that were not finished: four times as much, at least ten minutes.
_MORE_TIME: Final = 4
_MIN_MINUTES: Final = 10


def draw_experiment(out: Output, result: LoopResult, n_left: int, left_s: float) -> None:
    """Draw one row: outcome, settings, what the answer did, time; and how many are left."""
    mark, style = _MARK[result.outcome]
    text = (result.unit or result.text)[:_MAX_TEXT]
    rest = f"  {duration_text(result.seconds)}" if result.outcome != "skipped" else ""
    if n_left:
        time_left = f", {duration_text(left_s)}" if left_s >= 1 else ""
        rest += f"  ({n_left} left{time_left})"
    out.line(
        (f"{mark:<5}", style),
        f"{describe_settings(result.settings):<{_SETTINGS_WIDTH}}  {describe_result(result)}",
        (f"  {text!r}" if text else "", "dim"),
        (rest, "dim"),
    )


def draw_loop_diagnosis(out: Output, diagnosis: LoopDiagnosis) -> None:
    """Draw the conclusion, the known faults that fit it, and what to do."""
    conclusion = diagnosis.conclusion
    heading = ("LOOP", "bold red") if conclusion.loops else ("NO LOOP", "bold green")
    if not conclusion.n_run or (conclusion.n_not_run and not conclusion.loops):
        heading = ("UNKNOWN", "bold yellow")
    out.line()
    out.line(
        heading,
        f"  {diagnosis.subject}: {conclusion.text}",
        (f"  ({conclusion.n_run} experiments, {duration_text(diagnosis.spent_s)})", "dim"),
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

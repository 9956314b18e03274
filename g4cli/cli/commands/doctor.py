"""`g4 doctor`: find out what is wrong with a file, or with this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import typer

import g4cli.cli.options.doctor as o
from g4cli.cli.options.common import JsonOpt, QuietOpt
from g4cli.cli.output import Output, make_output
from g4cli.core.errors import UsageError
from g4cli.core.units import parse_duration


def doctor(
    file: o.FileArg = None,
    prompt: o.PromptArg = None,
    loop: o.LoopOpt = False,
    budget: o.BudgetOpt = "10m",
    quick: o.QuickOpt = False,
    deep: o.DeepOpt = False,
    only: o.OnlyOpt = None,
    fix: o.FixOpt = None,
    report: o.ReportOpt = None,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Find out why a GGUF file does not work, or what is wrong with this machine.

    The report names the cause, the evidence and the command that helps. Exits with 0 if no check
    failed, with 8 if one failed, and with 5 if the file is not a GGUF. With --fix, the exit code is
    that of the repaired copy, if one was kept.

    With --loop, the same question is asked under other conditions until it is clear which of them
    make the model repeat itself: length of the context, BOS token, thinking, tools, a JSON schema,
    sampling, flash attention, the KV cache, batches, drafting, each GPU.

    \b
    Examples:
      g4 doctor                                 check this machine
      g4 doctor model.gguf                      examine a file and run it
      g4 doctor hf:ggml-org/gemma-4-E2B-it-GGUF --quick
      g4 doctor model.gguf --fix repaired.gguf  repair its metadata in a copy
      g4 doctor model.gguf --deep --report bug.md
      g4 doctor model.gguf --loop --budget 5m   why does it repeat itself?
      g4 doctor model.gguf --loop "Draw a pelican" --report loop.md
    """
    out = make_output(as_json=json, quiet=quiet)
    if quick and deep:
        raise UsageError("--quick and --deep cannot be used together")
    if loop or prompt is not None:
        if quick or deep or only or fix:
            raise UsageError(
                "--loop cannot be used with --quick, --deep, --only or --fix",
                hint="g4 doctor FILE --loop PROMPT",
            )
        _run_loop_experiments(out, file, prompt, loop, parse_duration(budget), report)
        return
    from g4cli.cli.views.doctor import draw_diagnosis
    from g4cli.core.hub_address import as_address
    from g4cli.operations.diagnose import DiagnoseRequest, run_diagnosis

    request = DiagnoseRequest(
        as_address(file) if file else None,
        depth="quick" if quick else "deep" if deep else "default",
        only=tuple(only or ()),
        repaired=fix,
        bug_report=report,
    )
    diagnosis = run_diagnosis(request, out)
    out.result(
        diagnosis.as_json(),
        lambda: draw_diagnosis(out, diagnosis),
        brief=diagnosis.report.verdict,
    )
    if diagnosis.exit_code:
        raise typer.Exit(diagnosis.exit_code)


def _run_loop_experiments(
    out: Output,
    file: str | None,
    prompt: str | None,
    loop: bool,
    budget_s: float,
    report: Path | None,
) -> None:
    if not loop or file is None:
        raise UsageError(
            "--loop needs a file" if file is None else "a prompt is only used with --loop",
            hint="g4 doctor FILE --loop PROMPT",
        )
    if budget_s <= 0:
        raise UsageError("--budget must be longer than 0 seconds", hint="--budget 10m")
    from g4cli.cli.views.doctor_loop import draw_experiment, draw_loop_diagnosis
    from g4cli.operations.diagnose_loop import LoopRequest, diagnose_loop

    request = LoopRequest(
        file, budget_s=budget_s, bug_report=report, **({"question": prompt} if prompt else {})
    )
    diagnosis = diagnose_loop(request, out, partial(draw_experiment, out))
    out.result(
        diagnosis.as_json(),
        lambda: draw_loop_diagnosis(out, diagnosis),
        brief=diagnosis.conclusion.text,
    )
    if diagnosis.exit_code:
        raise typer.Exit(diagnosis.exit_code)

"""Write the experiments on a loop as Markdown, ready to be pasted into a bug report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from g4cli.doctor.bug_report import HEADING, code_span, list_versions, remove_private_parts
from g4cli.doctor.known_faults import ENGINE_DATE, KnownFault
from g4cli.doctor.loop.conclusion import Conclusion
from g4cli.doctor.loop.outcome import LoopResult
from g4cli.doctor.loop.settings import describe_settings

_UNIT: Final = 40


def describe_result(result: LoopResult) -> str:
    """Return what became of an answer: "repeats 2 tokens from token 3 on"."""
    found = result.repetition
    if result.outcome == "failed":
        return f"failed: {result.reason}"
    if result.outcome == "skipped":
        return f"not run: {result.reason}"
    if result.outcome == "loop" and found is not None:
        tokens = "1 token" if found.period == 1 else f"{found.period:,} tokens"
        return f"repeats {tokens} from token {found.onset + 1:,} on"
    if result.outcome == "garbage":
        return "tokens without text"
    if result.outcome == "ended":
        return f"ended after {result.n_tokens:,} tokens"
    return f"no repetition in {result.n_tokens:,} tokens"


def describe_fix(fault: KnownFault) -> str:
    """Return since when a known fault is gone, as far as that is known."""
    if not fault.fixed_in:
        return "no fix is known"
    text = f"ended by {fault.fixed_in}" + (f" on {fault.fixed_on}" if fault.fixed_on else "")
    if fault.is_fixed_here:
        return f"{text}, before the llama.cpp that g4 requires ({ENGINE_DATE})"
    return text


def write_loop_report(
    subject: str,
    question: str,
    results: Sequence[LoopResult],
    conclusion: Conclusion,
    build: str,
) -> str:
    """Return the report as Markdown; texts of the file stand in code spans, without folders."""

    def quote_text(text: str) -> str:
        return code_span(remove_private_parts(text, subject)).replace("|", "\\|")

    lines = [
        f"{HEADING}experiments on a loop",
        "",
        f"File: {code_span(Path(subject).name)}. Prompt: {quote_text(question)}. {build}.",
        "",
        f"{conclusion.text[:1].upper()}{conclusion.text[1:]}.",
        "",
        "| settings | answer | text | seconds |",
        "|---|---|---|--:|",
    ]
    for result in results:
        said = result.unit[:_UNIT] or result.text[:_UNIT]
        found = describe_result(result)
        if result.outcome == "failed":
            found = quote_text(found)
        lines.append(
            f"| {describe_settings(result.settings)} | {found} | {quote_text(said)} "
            f"| {result.seconds:.1f} |"
        )
    if conclusion.causes:
        lines += ["", "Known faults that fit:", ""]
    lines += [
        f"- {fault.title} ({fault.engine}: {fault.builds}; {describe_fix(fault)}): {fault.source}"
        for fault in conclusion.causes
    ]
    return "\n".join([*lines, "", *list_versions(), ""])

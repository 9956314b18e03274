"""Write the experiments on a loop as Markdown, ready to be pasted into a bug report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import DoctorFailed
from g4cli.core.quoting import code_span
from g4cli.core.units import count_text
from g4cli.doctor.bug_report import HEADING, list_versions, remove_private_parts
from g4cli.doctor.known_faults import ENGINE_DATE, KnownFault
from g4cli.doctor.loop.conclusion import Conclusion
from g4cli.doctor.loop.outcome import LoopResult
from g4cli.doctor.loop.settings import describe_settings

_MAX_SHOWN: Final = 40  # characters of an answer in a row of the table


@dataclass(frozen=True, slots=True)
class LoopDiagnosis:
    """The experiments and what follows from them.

    `subject` is the file as the user named it, `question` what was asked in all experiments,
    `build` names the llama.cpp that answered.
    """

    subject: str
    question: str
    results: tuple[LoopResult, ...]
    conclusion: Conclusion
    build: str
    spent_s: float
    budget_s: float

    @property
    def exit_code(self) -> int:
        """8 if the model repeats itself or could not be run, else 0."""
        failed = self.conclusion.loops or not self.conclusion.n_run
        return DoctorFailed.exit_code if failed else 0

    def as_json(self) -> dict[str, Any]:
        """Return the document of `--json`: docs/reference/schemas/doctor-loop.json."""
        conclusion = self.conclusion
        return {
            "subject": self.subject,
            "prompt": self.question,
            "build": self.build,
            "loops": conclusion.loops,
            "conclusion": conclusion.text,
            "conditions": None
            if conclusion.conditions is None
            else [
                {"factor": c.factor, "value": c.value, "at_least": c.at_least, "text": c.text}
                for c in conclusion.conditions
            ],
            "causes": [
                {
                    "id": fault.id,
                    "title": fault.title,
                    "engine": fault.engine,
                    "builds": fault.builds,
                    "fixed_in": fault.fixed_in,
                    "fixed_on": fault.fixed_on,
                    "fixed_here": fault.is_fixed_here,
                    "workaround": fault.workaround,
                    "source": fault.source,
                }
                for fault in conclusion.causes
            ],
            "experiments": [result.as_json() for result in self.results],
            "not_run": conclusion.n_not_run,
            "seconds": round(self.spent_s, 3),
            "budget": self.budget_s,
        }


def describe_result(result: LoopResult) -> str:
    """Return what became of an answer: "repeats 2 tokens from token 3 on"."""
    repetition = result.repetition
    if result.outcome == "failed":
        return f"failed: {result.reason}"
    if result.outcome == "skipped":
        return f"not run: {result.reason}"
    if result.outcome == "loop" and repetition is not None:
        tokens = count_text(repetition.period, "token")
        return f"repeats {tokens} from token {repetition.onset + 1:,} on"
    if result.outcome == "garbage":
        return "tokens without text"
    if result.outcome == "ended":
        return f"ended after {count_text(result.n_tokens, 'token')}"
    return f"no repetition in {count_text(result.n_tokens, 'token')}"


def describe_fix(fault: KnownFault) -> str:
    """Return which change ended a known fault, and when, as far as that is known."""
    if not fault.fixed_in:
        return "no fix is known"
    text = f"ended by {fault.fixed_in}" + (f" on {fault.fixed_on}" if fault.fixed_on else "")
    if fault.is_fixed_here:
        return f"{text}, before the llama.cpp that g4 requires ({ENGINE_DATE})"
    return text


def write_loop_report(diagnosis: LoopDiagnosis) -> str:
    """Return the report on experiments as Markdown, without the user's name and without folders."""
    subject, conclusion = diagnosis.subject, diagnosis.conclusion

    def quote_text(text: str) -> str:
        return code_span(remove_private_parts(text, subject))  # where no text is Markdown

    def quote_cell(text: str) -> str:
        return quote_text(text).replace("|", "\\|")  # a bar would end the cell of the table

    lines = [
        f"{HEADING}experiments on a loop",
        "",
        f"File: {quote_text(Path(subject).name)}. Prompt: {quote_text(diagnosis.question)}. "
        f"{diagnosis.build}.",
        "",
        f"{conclusion.text[:1].upper()}{conclusion.text[1:]}.",
        "",
        "| settings | answer | text | seconds |",
        "|---|---|---|--:|",
    ]
    for result in diagnosis.results:
        text = quote_cell((result.unit or result.text)[:_MAX_SHOWN])
        outcome = describe_result(result)
        # The reason of a failure is llama.cpp's message, which may quote the file.
        shown = quote_cell(outcome) if result.outcome == "failed" else outcome
        settings = describe_settings(result.settings)
        lines.append(f"| {settings} | {shown} | {text} | {result.seconds:.1f} |")
    if conclusion.causes:
        lines += ["", "Known faults that fit:", ""]
    lines += [
        f"- {fault.title} ({fault.engine}: {fault.builds}; {describe_fix(fault)}): {fault.source}"
        for fault in conclusion.causes
    ]
    return "\n".join([*lines, "", *list_versions(), ""])

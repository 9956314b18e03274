"""Derive the verdict from findings: the cause of the most certain failure, and a command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from g4cli.core.file_kind import command_for, kind_text
from g4cli.core.gguf_header import Header
from g4cli.core.hub_address import is_on_hub
from g4cli.core.quoting import shell_command
from g4cli.doctor.checks.advice import UPDATE_ENGINE
from g4cli.doctor.facts.file_facts import JUDGED_KINDS, FileFacts
from g4cli.doctor.report import Cause, Confidence, Finding, Verdict

# A cause explains those after it: damage may break the tokenizer, but a wrong tokenizer damages
# no bytes.
PRECEDENCE: Final[tuple[Cause, ...]] = (
    "file-damaged", "conversion-defect", "tokenizer", "template", "runtime",
)  # fmt: skip
_CONFIDENCE_RANK: Final[dict[Confidence, int]] = {"certain": 0, "high": 1, "medium": 2, "low": 3}

SUMMARY: Final[dict[Verdict, str]] = {
    "healthy": "nothing wrong was found",
    "not-checked": "nothing wrong was found in what was checked",
    "not-a-gguf": "this is another kind of file",
    "file-damaged": "its bytes are not those that were published",
    "conversion-defect": "the file is complete, but its content is wrong",
    "tokenizer": "text becomes other tokens than the model was trained with, or answers do not end",
    "template": "prompts have another format than the model was trained with",
    "runtime": "llama.cpp or this machine fails, not the file",
    "unknown": "something is wrong, and the evidence does not say what",
}

UNTRAINED: Final = "its weights are random: the network was never trained"

# What must be examined before a model is called healthy, and the check that needs all of it: if it
# was skipped, the part was not examined to its end.
_AREAS: Final = (
    ("tokenizer", "tokenizer.encoding"),
    ("weights", "weights.finite"),
    ("answers", "probe.loop"),
)
_LOADING: Final = "probe.load"


class Decision(NamedTuple):
    """A verdict, and the findings that decided it, most certain first; none for "healthy"."""

    verdict: Verdict
    confidence: Confidence
    decisive: tuple[Finding, ...] = ()


def decide_verdict(findings: Sequence[Finding]) -> Decision:
    """Return the verdict that follows from the findings alone."""
    failures = [f for f in findings if f.status == "fail"]
    suspicions = [f for f in findings if f.status == "warn" and f.cause]
    # A warning with a cause is too weak for a verdict, but too strong for "healthy".
    if not failures and suspicions:
        return Decision("unknown", "medium", tuple(suspicions))
    if not failures:
        crashed = any(f.status == "crash" for f in findings)
        return Decision("unknown", "low") if crashed else Decision("healthy", "high")
    explained = [
        (_CONFIDENCE_RANK[f.confidence], PRECEDENCE.index(f.cause), f) for f in failures if f.cause
    ]
    if not explained:
        return Decision("unknown", "low", tuple(failures))
    explained.sort(key=lambda row: row[:2])
    best = explained[0][-1]
    assert best.cause is not None
    decisive = tuple(f for _, _, f in explained if f.cause == best.cause)
    return Decision(best.cause, best.confidence, decisive)


def judge_without_failures(
    facts: FileFacts, header: Header, findings: Sequence[Finding]
) -> tuple[Verdict, str, str]:
    """Return (verdict, summary, command to type next or "") for a file without a failed check.

    A language model is healthy if its tokenizer, weights and answers were examined. Any other file
    is "not-checked", and the summary says what it is and what was not examined.
    """
    if facts.kind not in ("text-model", "vocabulary", "other-model"):
        judged = facts.kind in JUDGED_KINDS
        what = (
            "Nothing wrong was found, but llama.cpp did not run it"
            if judged
            else "Its format is sound; tokenizer, template and weights were not examined"
        )
        return "not-checked", f"this is {kind_text(header)}. {what}", command_for(header)
    statuses = {f.id: f.status for f in findings}
    missing = [name for name, check in _AREAS if statuses.get(check, "skipped") == "skipped"]
    kind = f"this is {kind_text(header)}; " if facts.kind != "text-model" else ""
    if missing:
        found = UNTRAINED if facts.is_untrained else "nothing wrong was found"
        reason = _reason_not_asked(facts)
        why = f" ({reason})" if reason else ""
        text = f"{kind}{found}; not checked: {', '.join(missing)}{why}"
        return "not-checked", text, _next_command(facts, header, findings)
    if facts.is_untrained:
        return "healthy", f"{kind}the file is sound, but {UNTRAINED}", ""
    basis = " by what holds for every language model" if facts.is_other_model else ""
    return "healthy", f"{kind}{SUMMARY['healthy']}{basis}", ""


def _next_command(facts: FileFacts, header: Header, findings: Sequence[Finding]) -> str:
    """Return what examines the parts that are missing, else what uses the file, or ''."""
    if is_on_hub(facts.path) or not header.tensors:
        return ""  # only the header is at hand, and nothing else would tell more
    if facts.has_unknown_architecture:
        return UPDATE_ENGINE
    if facts.is_other_model and facts.depth != "quick" and not facts.probe_skipped:
        return command_for(header)
    examine = shell_command("g4", "doctor", Path(facts.path))
    if not facts.probe_skipped and facts.probe is None:
        return examine
    # The same command would give no answers again; probe.load knows what may.
    return next((f.fix for f in findings if f.id == _LOADING and f.status == "skipped"), examine)


def _reason_not_asked(facts: FileFacts) -> str:
    """Return why llama.cpp gave no answers of this file, or ''."""
    if facts.probe_skipped:
        return facts.probe_skipped
    if facts.probe is not None and facts.probe.child.died:  # too slow, or too large
        return facts.probe.child.died
    if facts.has_unknown_architecture:
        return "this llama.cpp does not know the architecture"
    return facts.reason_not_generative if facts.is_other_model else ""

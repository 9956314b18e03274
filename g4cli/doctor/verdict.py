"""From findings to one verdict: the cause of the most decisive failure, and what to type."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from g4cli.core.file_kind import kind_text, use_of
from g4cli.core.gguf_header import Header
from g4cli.core.hub_name import is_on_hub
from g4cli.core.quoting import shell_command
from g4cli.doctor.facts.file_facts import JUDGED, FileFacts
from g4cli.doctor.report import Cause, Confidence, Finding, Verdict

# Earlier causes explain later ones: a damaged file may also have a wrong tokenizer, not the other way round.
PRECEDENCE: Final[tuple[Cause, ...]] = (
    "file-damaged", "conversion-defect", "tokenizer", "template", "runtime", "model-behaviour",
)  # fmt: skip
_RANK: Final[dict[Confidence, int]] = {"certain": 0, "high": 1, "medium": 2, "low": 3}

SUMMARY: Final[dict[Verdict, str]] = {
    "healthy": "nothing wrong was found",
    "not-checked": "nothing wrong was found in what was checked",
    "not-a-gguf": "this is another kind of file",
    "file-damaged": "the bytes are not those that were published",
    "conversion-defect": "the file is whole, but what was written into it is wrong",
    "tokenizer": "the model gets other words than you type, or does not see where to end",
    "template": "questions reach the model in a format that it does not know",
    "runtime": "the engine or this machine fails, not the file",
    "model-behaviour": "the file and the engine are sound: the model does this by itself",
    "unknown": "something is wrong, and the evidence does not say what",
}

UNTRAINED: Final = "its weights are random: nobody has trained this network"

# What a healthy model must have shown, and the check that looks at it last.
_AREAS: Final = (
    ("tokenizer", "tokenizer.encoding"),
    ("weights", "weights.finite"),
    ("answers", "probe.loop"),
)
_LOADING: Final = "probe.load"


def decide(findings: Sequence[Finding]) -> tuple[Verdict, Confidence, tuple[Finding, ...]]:
    """Return the verdict, how sure it is, and the findings that decided it (failures, best first)."""
    failures = [f for f in findings if f.status == "fail"]
    doubts = [f for f in findings if f.status == "warn" and f.cause]
    if not failures and doubts:
        return "unknown", "medium", tuple(doubts)
    if not failures:
        return (
            ("unknown", "low", ())
            if any(f.status == "crash" for f in findings)
            else ("healthy", "high", ())
        )
    known = [f for f in failures if f.cause]
    if not known:
        return "unknown", "low", tuple(failures)
    known.sort(key=lambda f: (_RANK[f.confidence], PRECEDENCE.index(f.cause or "model-behaviour")))
    best = known[0]
    assert best.cause is not None
    agreeing = [f for f in known if f.cause == best.cause]
    return best.cause, best.confidence, tuple(agreeing)


def judge_sound(
    facts: FileFacts, header: Header, findings: Sequence[Finding]
) -> tuple[Verdict, str, str]:
    """Return verdict, summary and next command for a file in which no check found a fault.

    Healthy is a Gemma 4 text model whose tokenizer, weights and answers were looked at; every other file is
    not checked in part, and the summary says what it is and what was not looked at.
    """
    if facts.kind not in ("text-model", "vocabulary"):
        judged = facts.kind in JUDGED
        what = (
            "Nothing wrong was found, but nothing was run"
            if judged
            else "Its format is sound; tokenizer, template and weights were not judged"
        )
        return "not-checked", f"this is {kind_text(header)}. {what}", use_of(header)
    statuses = {f.id: f.status for f in findings}
    missing = [name for name, check in _AREAS if statuses.get(check, "skipped") == "skipped"]
    if not missing:
        text = f"the file is sound, but {UNTRAINED}" if facts.untrained else SUMMARY["healthy"]
        return "healthy", text, ""
    why = next((f for f in findings if f.id == _LOADING and f.status == "skipped"), None)
    reason = f" ({facts.probe_skipped})" if facts.probe_skipped else ""
    text = UNTRAINED if facts.untrained else "nothing wrong was found"
    if facts.kind == "vocabulary":
        text = f"this is {kind_text(header)}; {text}"
    text += f"; not checked: {', '.join(missing)}{reason}"
    command = (
        why.fix if why and facts.probe_skipped else shell_command("g4", "doctor", Path(facts.path))
    )
    here = not is_on_hub(facts.path)
    return "not-checked", text, command if here and header.tensors else ""

"""From findings to one verdict: the cause of the most decisive failure, and what to type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from g4cli.doctor.report import Cause, Confidence, Finding, Verdict

# Earlier causes explain later ones: a damaged file may also have a wrong tokenizer, not the other way round.
PRECEDENCE: Final[tuple[Cause, ...]] = (
    "file-damaged", "conversion-defect", "tokenizer", "template", "runtime", "model-behaviour",
)  # fmt: skip
_RANK: Final[dict[Confidence, int]] = {"certain": 0, "high": 1, "medium": 2, "low": 3}

SUMMARY: Final[dict[Verdict, str]] = {
    "healthy": "nothing wrong was found",
    "file-damaged": "the bytes are not those that were published",
    "conversion-defect": "the file is whole, but what was written into it is wrong",
    "tokenizer": "the model gets other words than you type, or does not see where to end",
    "template": "questions reach the model in a format that it does not know",
    "runtime": "the engine or this machine fails, not the file",
    "model-behaviour": "the file and the engine are sound: the model does this by itself",
    "unknown": "something is wrong, and the evidence does not say what",
}

UNTRAINED: Final = "the file is sound, but its weights are random: nobody has trained this network"


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

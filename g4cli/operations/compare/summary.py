"""Count what became of the answers of each model: shares with intervals, medians of speeds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from g4cli.operations.compare.run import ComparedModel, Comparison
from g4cli.svg.rules import KINDS, RULES

_Z_95: Final = 1.959964  # quantile of the normal distribution for 95 %
# Text around a drawing is no fault of the drawing, and where there is none nothing is.
_AROUND: Final = frozenset(("text-around", "other-drawing", "no-drawing"))


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `total`, with the bounds of its 95 % confidence interval."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The share, 0 of nothing."""
        return self.count / self.total if self.total else 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """The Wilson score interval.

        Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212, without continuity correction.
        It is right for few answers and for shares of 0 and 1 too.
        """
        if not self.total:
            return 0.0, 1.0
        n, p, z2 = self.total, self.value, _Z_95**2
        center = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z_95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        return max(0.0, center - half), min(1.0, center + half)

    def as_json(self) -> dict[str, Any]:
        """Return the share as the JSON document has it."""
        low, high = self.bounds
        return {
            "count": self.count,
            "total": self.total,
            "share": round(self.value, 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }


@dataclass(frozen=True, slots=True)
class FaultCount:
    """In how many drawings a rule was broken, and in how many of these all of it was repaired."""

    rule: str
    kind: str
    message: str
    drawings: int
    repaired: int


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """The figures of one model. `shares` has those that its prompts ask for, by their headings.

    `n_asked` counts answers, missing ones included. `first_s` (seconds), `decode_tps` and
    `completion_tokens` are medians, `first_s` over the first answer to each prompt only: later
    ones find the prompt in the KV cache.
    """

    n_asked: int
    n_answered: int
    shares: Mapping[str, Share]
    faults: tuple[FaultCount, ...]
    first_s: float | None
    decode_tps: float | None
    completion_tokens: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the summary as the JSON document has it."""
        return {
            "asked": self.n_asked,
            "answered": self.n_answered,
            "shares": {name: share.as_json() for name, share in self.shares.items()},
            "faults": [asdict(fault) for fault in self.faults],
            "first_s": self.first_s,
            "decode_tps": self.decode_tps,
            "completion_tokens": self.completion_tokens,
        }


# Heading of a share -> what it means; the reports show both.
SHARES: Final[Mapping[str, str]] = {
    "correct": "the answer is, or contains, what was expected",
    "valid": "the JSON matches its schema, or the code can be parsed",
    "drawing found": "the answer contains an <svg>",
    "opens as it came": "a strict XML parser accepts the drawing, without the text around it",
    "opens after repair": "a strict XML parser accepts the repaired drawing",
    "not blank": "the repaired drawing opens, renders and shows something",
    "flawless as it came": "opens, renders, is not blank, and no rule is broken",
    "flawless after repair": "the same after the repair",
    "loops": "the loop detector found a repetition",
    "cut off": "the answer reached the limit of tokens or of the context",
}


def summarize_model(model: ComparedModel, comparison: Comparison) -> ModelSummary:
    """Return the figures of one model."""
    answers = list(model.answers.values())
    request = comparison.request
    first = [a["first_s"] for a in answers if a.get("sample") == 0]
    return ModelSummary(
        n_asked=len(request.prompts) * request.samples,
        n_answered=len(answers),
        shares=_count_shares(answers),
        faults=count_faults(answers),
        first_s=_median(first),
        decode_tps=_median(a["decode_tps"] for a in answers),
        completion_tokens=_median(a["completion_tokens"] for a in answers),
    )


def _count_shares(answers: Sequence[Mapping[str, Any]]) -> dict[str, Share]:
    drawings = [a["drawing"] for a in answers if a.get("drawing")]
    counted: dict[str, list[bool]] = {
        "correct": [a["correct"] for a in answers if a.get("correct") is not None],
        "valid": [a["valid"] for a in answers if a.get("valid") is not None],
        "drawing found": [_has_drawing(d) for d in drawings],
        "opens as it came": [opens_as_it_came(d) for d in drawings],
        "opens after repair": [_has_passed(d, "opens") for d in drawings],
        "not blank": [bool(d["works"]) for d in drawings],
        "flawless as it came": [bool(d["works"]) and not list_faults(d) for d in drawings],
        "flawless after repair": [bool(d["repaired"]) for d in drawings],
        "loops": [bool(a.get("loop")) for a in answers],
        "cut off": [a.get("finish_reason") == "length" for a in answers],
    }
    return {name: Share(sum(values), len(values)) for name, values in counted.items() if values}


def _has_passed(drawing: Mapping[str, Any], stage: str) -> bool:
    return any(row["name"] == stage and row["passed"] for row in drawing["stages"])


def _has_drawing(drawing: Mapping[str, Any]) -> bool:
    return _has_passed(drawing, "found")


def opens_as_it_came(drawing: Mapping[str, Any]) -> bool:
    """Return whether a drawing (of `g4 svg --json`) is well-formed, apart from text around it."""
    broken = any(finding["kind"] == "xml" for finding in list_faults(drawing))
    return _has_drawing(drawing) and _has_passed(drawing, "complete") and not broken


def list_faults(drawing: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the findings that are faults of the drawing itself."""
    return [
        finding
        for finding in drawing["findings"]
        if finding["kind"] != "style" and finding["rule"] not in _AROUND
    ]


def count_faults(answers: Iterable[Mapping[str, Any]]) -> tuple[FaultCount, ...]:
    """Return how many drawings break each rule, the commonest first."""
    drawings: Counter[str] = Counter()
    repaired: Counter[str] = Counter()
    for answer in answers:
        states: dict[str, bool] = {}
        for finding in list_faults(answer.get("drawing") or {"findings": []}):
            rule = finding["rule"]
            states[rule] = states.get(rule, True) and bool(finding["repaired"])
        drawings.update(states.keys())
        repaired.update(rule for rule, all_repaired in states.items() if all_repaired)
    return tuple(
        FaultCount(
            rule,
            KINDS[RULES[rule].kind] if rule in RULES else "",
            RULES[rule].message.replace("{}", "…") if rule in RULES else rule,
            count,
            repaired[rule],
        )
        for rule, count in sorted(drawings.items(), key=lambda item: (-item[1], item[0]))
    )


class Wins(NamedTuple):
    """In which of the opinions about a model's answers it won, and how many of them were ties."""

    share: Share
    n_ties: int


def count_wins(comparison: Comparison) -> dict[str, Wins]:
    """Return what the judge's opinions say of each model, by its label."""
    wins: Counter[str] = Counter()
    ties: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for opinion in comparison.opinions:
        pair = (str(opinion["a"]), str(opinion["b"]))
        total.update(pair)
        if opinion["winner"] in pair:
            wins[opinion["winner"]] += 1
        else:
            ties.update(pair)
    return {label: Wins(Share(wins[label], n), ties[label]) for label, n in total.items()}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 3) if known else None

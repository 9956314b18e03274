"""What a diagnosis consists of: findings, and the report that a user or a script gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from g4cli.core.errors import DoctorFailed, NotGGUF
from g4cli.core.file_kind import FileKind

Status: TypeAlias = Literal["ok", "warn", "fail", "crash", "skipped"]
Cause: TypeAlias = Literal[
    "file-damaged", "conversion-defect", "tokenizer", "template", "runtime", "model-behaviour"
]
Verdict: TypeAlias = Literal["healthy", "unknown", "not-checked", "not-a-gguf"] | Cause
Confidence: TypeAlias = Literal["certain", "high", "medium", "low"]

WORST_FIRST: Final[tuple[Status, ...]] = ("fail", "crash", "warn", "skipped", "ok")


def counted(count: int, thing: str) -> str:
    """Return a number with its thing: '1 tensor', '1,200 tensors'."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one check.

    `found` says what is there and what was expected, `fix` is a command or an instruction, `cause` is what a
    failure points to, `detail` lists the single places for the long report. `code` tells the failures of one
    check apart, for what depends on them; '' where a check has one.
    """

    id: str
    status: Status
    found: str
    fix: str = ""
    cause: Cause | None = None
    confidence: Confidence = "certain"
    detail: tuple[str, ...] = ()
    code: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the finding as scripts see it."""
        return {
            "id": self.id,
            "status": self.status,
            "found": self.found,
            "fix": self.fix,
            "cause": self.cause,
            "confidence": self.confidence,
            "detail": list(self.detail),
            "code": self.code,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check function returns; `run_checks` adds the id."""

    status: Status
    found: str
    fix: str = ""
    cause: Cause | None = None
    confidence: Confidence = "certain"
    detail: tuple[str, ...] = ()
    code: str = ""


def ok(found: str) -> Outcome:
    """Return a passed check."""
    return Outcome("ok", found)


def skipped(found: str, fix: str = "") -> Outcome:
    """Return a check that was not made, and why; `fix` is the command that makes it, if it applies."""
    return Outcome("skipped", found, fix)


def warn(found: str, fix: str = "", *, detail: tuple[str, ...] = ()) -> Outcome:
    """Return something odd that explains no failure."""
    return Outcome("warn", found, fix, detail=detail)


def fail(
    found: str,
    fix: str,
    *,
    cause: Cause,
    confidence: Confidence = "certain",
    detail: tuple[str, ...] = (),
    code: str = "",
) -> Outcome:
    """Return a failure with what it points to."""
    return Outcome("fail", found, fix, cause, confidence, detail, code)


@dataclass(frozen=True, slots=True)
class Report:
    """A diagnosis: the verdict, the evidence that decided it, what to type next, and every finding.

    `kind` is what the file holds (`core.file_kind`), '' for a machine or an unreadable header.
    """

    subject: str
    verdict: Verdict
    confidence: Confidence
    summary: str
    evidence: tuple[str, ...]
    fix: str
    findings: tuple[Finding, ...]
    kind: FileKind | Literal[""] = ""

    @property
    def header_readable(self) -> bool:
        """Return whether the header could be read to its end."""
        return not any(
            f.id in ("file.magic", "file.header") and f.status == "fail" for f in self.findings
        )

    @property
    def exit_code(self) -> int:
        """Return 0, the code of NotGGUF for another kind of file, or DoctorFailed's for a failure."""
        if self.verdict == "not-a-gguf":
            return NotGGUF.exit_code
        failed = any(f.status in ("fail", "crash") for f in self.findings)
        return DoctorFailed.exit_code if failed else 0

    @property
    def worst_first(self) -> tuple[Finding, ...]:
        """Return the findings, failures first; within a status in the order of the checks."""
        return tuple(sorted(self.findings, key=lambda f: WORST_FIRST.index(f.status)))

    def as_json(self) -> dict[str, Any]:
        """Return the report as scripts see it."""
        return {
            "subject": self.subject,
            "kind": self.kind,
            "verdict": self.verdict,
            "confidence": self.confidence,
            "summary": self.summary,
            "evidence": list(self.evidence),
            "fix": self.fix,
            "findings": [f.as_json() for f in self.worst_first],
        }


@dataclass(frozen=True, slots=True)
class Check:
    """A small question about facts. `family` groups ids for --only; `run` never prints."""

    id: str
    run: Callable[[Any], Outcome]

    @property
    def family(self) -> str:
        """Return the part of the id before the dot."""
        return self.id.split(".")[0]


def run_checks(
    checks: Sequence[Check], facts: Any, only: tuple[str, ...] = ()
) -> tuple[Finding, ...]:
    """Return one finding per check; a check that throws is a finding 'crash', not the end.

    `only` keeps the checks whose id or family is named.
    """
    findings = []
    for check in checks:
        if only and check.id not in only and check.family not in only:
            continue
        try:
            outcome = check.run(facts)
        except Exception as err:
            outcome = Outcome(
                "crash",
                f"the check itself failed: {type(err).__name__}: {err}",
                "report this as a bug in g4: g4 doctor FILE --report bug.md",
                confidence="low",
            )
        findings.append(
            Finding(
                check.id,
                outcome.status,
                outcome.found,
                outcome.fix,
                outcome.cause,
                outcome.confidence,
                outcome.detail,
                outcome.code,
            )
        )
    return tuple(findings)

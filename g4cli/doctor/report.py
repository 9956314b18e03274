"""The parts of a diagnosis: outcomes, findings, and the report for a user or a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

from g4cli.core.errors import DoctorFailed, NotGGUF
from g4cli.core.file_kind import FileKind

# "crash": the check itself failed, which is a bug in g4.
Status: TypeAlias = Literal["ok", "warn", "fail", "crash", "skipped"]
Cause: TypeAlias = Literal["file-damaged", "conversion-defect", "tokenizer", "template", "runtime"]
"""What a failure points to; "runtime" is llama.cpp or this machine."""
Verdict: TypeAlias = Literal["healthy", "unknown", "not-checked", "not-a-gguf"] | Cause
"""The conclusion from all findings; verdict.SUMMARY says what each means."""
Confidence: TypeAlias = Literal["certain", "high", "medium", "low"]
"""How sure it is that a failure has its cause; "certain" where no other explanation is known."""

WORST_FIRST: Final[tuple[Status, ...]] = ("fail", "crash", "warn", "skipped", "ok")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check function returns.

    `found` says what is there and what was expected, `fix` is a command or an instruction, `cause`
    is what a failure points to, `detail` lists tensors, keys or tokens for the long report. `code`
    tells the failures of one check apart, for code that depends on them; '' if the check has only
    one.
    """

    status: Status
    found: str
    fix: str = ""
    cause: Cause | None = None
    confidence: Confidence = "certain"
    detail: tuple[str, ...] = ()
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Outcome):
    """The outcome of the check called `id`."""

    id: str

    def as_json(self) -> dict[str, Any]:
        """Return the finding as an object of docs/reference/schemas/doctor.json."""
        return {"id": self.id, **asdict(self), "detail": list(self.detail)}


def ok(found: str) -> Outcome:
    """Return the outcome of a passed check."""
    return Outcome("ok", found)


def skipped(found: str, fix: str = "") -> Outcome:
    """Return the outcome of a check that was not run; `fix` is the command that runs it."""
    return Outcome("skipped", found, fix)


def warn(
    found: str, fix: str = "", *, cause: Cause | None = None, detail: tuple[str, ...] = ()
) -> Outcome:
    """Return the outcome for something unusual that explains no failure.

    With a `cause` it does not decide the verdict either, but keeps it from being "healthy".
    """
    return Outcome("warn", found, fix, cause, detail=detail)


def fail(
    found: str,
    fix: str,
    *,
    cause: Cause,
    confidence: Confidence = "certain",
    detail: tuple[str, ...] = (),
    code: str = "",
) -> Outcome:
    """Return the outcome of a failed check with what it points to."""
    return Outcome("fail", found, fix, cause, confidence, detail, code)


@dataclass(frozen=True, slots=True)
class Report:
    """A diagnosis: the verdict, the evidence for it, what to type next, and all findings.

    `subject` is the file as the user named it, or "this machine". `kind` is what the file holds
    (`core.file_kind`), '' for a machine and for an unreadable header.
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
        """Whether the header could be read to its end."""
        return not any(
            f.id in ("file.magic", "file.header") and f.status == "fail" for f in self.findings
        )

    @property
    def exit_code(self) -> int:
        """0 without a failure, NotGGUF's code for another kind of file, else DoctorFailed's."""
        if self.verdict == "not-a-gguf":
            return NotGGUF.exit_code
        failed = any(f.status in ("fail", "crash") for f in self.findings)
        return DoctorFailed.exit_code if failed else 0

    @property
    def worst_first(self) -> tuple[Finding, ...]:
        """The findings, failures first; within a status in the order of the checks."""
        return tuple(sorted(self.findings, key=lambda f: WORST_FIRST.index(f.status)))

    def as_json(self) -> dict[str, Any]:
        """Return the report as docs/reference/schemas/doctor.json describes it."""
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
    """A function that judges facts: FileFacts, or MachineFacts in the family "machine".

    Its id is `family.name`; --only takes an id or a family.
    """

    id: str
    run: Callable[[Any], Outcome]

    @property
    def family(self) -> str:
        """The part of the id before the dot."""
        return self.id.split(".")[0]


def is_requested(only: tuple[str, ...], name: str) -> bool:
    """Return whether `only`, ids or families of checks, names the check or family `name`.

    An empty `only` names all; a check in it names its family too, since facts are read by family.
    """
    family = name.split(".")[0]
    return not only or any(
        word in (name, family) or (name == family == word.split(".")[0]) for word in only
    )


def run_checks(
    checks: Sequence[Check], facts: Any, only: tuple[str, ...] = ()
) -> tuple[Finding, ...]:
    """Return a finding for each check that `only` names by id or family, or for all.

    A check that raises becomes a finding 'crash': the others still count.
    """
    findings = []
    for check in checks:
        if not is_requested(only, check.id):
            continue
        file = "" if check.family == "machine" else "FILE "
        try:
            outcome = check.run(facts)
        except Exception as err:
            outcome = Outcome(
                "crash",
                f"this check failed: {type(err).__name__}: {err}",
                f"report this as a bug in g4: g4 doctor {file}--report bug.md",
                confidence="low",
            )
        findings.append(Finding(**asdict(outcome), id=check.id))
    return tuple(findings)

"""Diagnose a file or this machine, write a repaired copy and a bug report, for `g4 doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g4cli import host
from g4cli.core.errors import UsageError
from g4cli.core.files import atomic_file, is_there, open_file, require_file_target
from g4cli.core.hub_address import is_on_hub
from g4cli.core.quoting import shell_word
from g4cli.core.reporter import Reporter
from g4cli.doctor.bug_report import HEADING, write_bug_report
from g4cli.doctor.diagnose import diagnose_file, diagnose_machine, judge_facts, known_ids
from g4cli.doctor.facts.file_facts import Depth
from g4cli.doctor.repair import Repair, is_better, repair_file, require_new_file
from g4cli.doctor.report import Report
from g4cli.hub.remote_facts import read_remote_facts
from g4cli.store.models import find_model_file


@dataclass(frozen=True, slots=True)
class DiagnoseRequest:
    """What to diagnose, and what to write.

    `file` is a path, the name of a pulled model, hf:OWNER/REPO/FILE, or None for this machine.
    `only` are ids or families of checks, empty for all. `repaired` and `bug_report` are the files
    to write: a repaired copy, and the report as Markdown.
    """

    file: str | None
    depth: Depth = "default"
    only: tuple[str, ...] = ()
    repaired: Path | None = None
    bug_report: Path | None = None

    @property
    def is_remote(self) -> bool:
        """Whether the file is on the hub."""
        return self.file is not None and is_on_hub(self.file)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The report; after a repair also what it changed, the report on the copy, and if it is kept.

    `repaired_report` is None where nothing could be repaired.
    """

    report: Report
    repair: Repair | None = None
    repaired_report: Report | None = None
    is_kept: bool = False

    @property
    def exit_code(self) -> int:
        """The exit code for the repaired copy if it was kept, else for the file."""
        kept = self.repaired_report if self.is_kept else None
        return (kept or self.report).exit_code

    def as_json(self) -> dict[str, Any]:
        """Return the document of `g4 doctor --json`: docs/reference/schemas/doctor.json."""
        data = self.report.as_json()
        if self.repair is not None:
            after = self.repaired_report
            data["repair"] = self.repair.as_json() | {
                "verdict": after.verdict if after else None,
                "kept": self.is_kept,
                "path": str(self.repair.path) if self.is_kept else None,
            }
        return data


def run_diagnosis(request: DiagnoseRequest, reporter: Reporter) -> Diagnosis:
    """Return the diagnosis, after writing the repaired copy and the bug report of the request.

    A copy that is not better than the source is deleted. Raises UsageError for a request that
    contradicts itself, an unknown check, and a file that would be overwritten; and what finding or
    reading the file raises.
    """
    _check_request(request)
    file = None if request.is_remote else request.file
    path = None if file is None else find_local_file(file)
    report = _diagnose_subject(request, path, reporter)
    diagnosis = Diagnosis(report)
    if request.repaired is not None and path is not None and report.header_readable:
        diagnosis = _write_repaired_copy(request, report, path, request.repaired, reporter)
    if request.bug_report is not None:
        save_report(request.bug_report, write_bug_report(report), reporter)
    return diagnosis


def _check_request(request: DiagnoseRequest) -> None:
    """Raise UsageError now for what would otherwise fail after minutes of checks."""
    known = known_ids(machine=request.file is None)
    unknown = sorted(set(request.only) - known)
    if unknown:
        families = " ".join(sorted(i for i in known if "." not in i))
        raise UsageError(f"unknown check: {', '.join(unknown)}", hint=f"families: {families}")
    if request.repaired is not None:
        if request.file is None or request.is_remote:
            raise UsageError("--fix needs a local file", hint="g4 doctor FILE --fix OUT")
        require_new_file(request.repaired)
        if request.bug_report and request.bug_report.absolute() == request.repaired.absolute():
            raise UsageError(
                "--fix and --report need two files", hint="g4 doctor FILE --fix OUT --report MD"
            )
    if request.is_remote and request.depth != "quick":
        raise UsageError(
            "only the header of a file on the hub is examined",
            hint=f"g4 doctor {shell_word(request.file or '')} --quick",
        )
    if request.bug_report is not None:
        require_report(request.bug_report)


def require_report(path: Path) -> None:
    """Raise UsageError if `path` cannot be written, or is a file other than a report of g4."""
    require_file_target(path)
    if is_there(path) and path.stat().st_size:
        with open_file(path) as file:
            if file.read(len(HEADING)) != HEADING.encode():
                raise UsageError(
                    f"{path} exists and was not written by g4 doctor --report",
                    hint="--report with the name of a new file",
                )


def save_report(path: Path, text: str, reporter: Reporter) -> None:
    """Write a report to the file that the user named. Raises NoSpace."""
    with atomic_file(path) as target:
        target.write(text.encode("utf-8", "replace"))
    reporter.say(f"report written to {path}")


def find_local_file(file: str) -> Path:
    """Return the path `file`, or of the pulled model of that name. Raises what the store raises."""
    path = Path(file)
    return path if is_there(path) else find_model_file(file).path


def _diagnose_subject(request: DiagnoseRequest, path: Path | None, reporter: Reporter) -> Report:
    """Return the report on the file at `path`, else on the file on the hub or on this machine."""
    if path is not None:
        return _diagnose_file(path, request.depth, request.only, reporter)
    if request.file is not None:
        return judge_facts(read_remote_facts(request.file), request.only)
    memory = host.read_host()
    label = "examine libraries, kernels and GPUs of this machine"
    with reporter.progress(label, unit="steps"):
        return diagnose_machine(
            request.only, memory_total=memory.total_bytes, memory_free=memory.available_bytes
        )


def _diagnose_file(path: Path, depth: Depth, only: tuple[str, ...], reporter: Reporter) -> Report:
    free_bytes = host.read_host().available_bytes if depth != "quick" else 0
    with reporter.progress(f"examine {path.name}", unit="steps") as progress:
        return diagnose_file(path, depth=depth, only=only, free_bytes=free_bytes, progress=progress)


def _write_repaired_copy(
    request: DiagnoseRequest, report: Report, source: Path, target: Path, reporter: Reporter
) -> Diagnosis:
    """Write a repaired copy, run the same checks on it, and delete it unless it is better."""
    with reporter.progress(f"write {target.name}") as progress:
        repair = repair_file(report, source, target, progress=progress)
    if not repair.changes:
        return Diagnosis(report, repair)
    is_kept = False
    try:
        after = _diagnose_file(target, request.depth, request.only, reporter)
        is_kept = is_better(after, report)
    finally:
        if not is_kept:
            target.unlink()
    return Diagnosis(report, repair, after, is_kept)

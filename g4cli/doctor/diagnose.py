"""The whole diagnosis of a file: facts, checks, verdict."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from g4cli.core.errors import NotGGUF
from g4cli.core.hub_name import is_on_hub
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_word
from g4cli.doctor.checks import (
    engine_bugs,
    file,
    hashes,
    keys,
    mmproj,
    probe,
    template,
    tensors,
    tokenizer,
    weights,
)
from g4cli.doctor.checks.machine import CHECKS as MACHINE_CHECKS
from g4cli.doctor.facts import duplicates, sfp8_values
from g4cli.doctor.facts.file_facts import JUDGED, Depth, FileFacts, gather
from g4cli.doctor.probe import compare
from g4cli.doctor.report import Check, Report, run_checks, skipped
from g4cli.doctor.verdict import SUMMARY, decide, judge_sound

# Cheapest first: what an early check finds makes the later ones unnecessary.
CHECKS: Final[tuple[Check, ...]] = (
    *file.CHECKS, *hashes.CHECKS, *keys.CHECKS, *mmproj.CHECKS, *tensors.CHECKS,
    *engine_bugs.CHECKS, *tokenizer.CHECKS, *template.CHECKS, *weights.CHECKS,
    *duplicates.CHECKS, *sfp8_values.CHECKS, *probe.CHECKS, *compare.CHECKS,
)  # fmt: skip


def diagnose(
    path: Path,
    *,
    depth: Depth = "default",
    only: tuple[str, ...] = (),
    progress: Progress = no_progress,
) -> Report:
    """Return the report on the file at `path`. Raises FileMissing, or UsageError for a directory."""
    return judge(gather(path, depth, only=only, progress=progress), only)


def known_ids(*, machine: bool = False) -> set[str]:
    """Return what --only may name: the ids of all checks and their families."""
    checks = MACHINE_CHECKS if machine else CHECKS
    return {name for check in checks for name in (check.id, check.family)}


def to_type(fix: str, facts: FileFacts) -> str:
    """Return a fix as it can be typed: with the file's name, the model's, and one for the mended copy."""
    names = {
        "FILE": shell_word(Path(facts.path) if not is_on_hub(facts.path) else facts.path),
        "OUT": shell_word(Path(f"{Path(facts.path).stem}-mended.gguf")),
    }
    if facts.model_name:
        names["g4 pull MODEL"] = f"g4 pull {shell_word(facts.model_name)}"
    return re.sub(r"\b(?:FILE|OUT|g4 pull MODEL)\b", lambda m: names.get(m[0], m[0]), fix)


# Families and checks that hold for a GGUF of any kind; the others judge what g4 knows of Gemma 4.
_ANY_KIND: Final = ("file", "keys.architecture", "tensors.parts")


def _checks_for(facts: FileFacts) -> tuple[Check, ...]:
    """Return all checks; those that do not hold for this kind of file say so instead of judging it."""
    if facts.kind in JUDGED:
        return CHECKS
    why = "the header cannot be read" if facts.header is None else "holds for Gemma 4 only"
    return tuple(
        check
        if check.id in _ANY_KIND or check.family in _ANY_KIND
        else replace(check, run=lambda _: skipped(why))
        for check in CHECKS
    )


def judge(facts: FileFacts, only: tuple[str, ...] = ()) -> Report:
    """Return the report on facts already gathered."""
    checked = run_checks(_checks_for(facts), facts, only)
    findings = tuple(replace(f, fix=to_type(f.fix, facts)) for f in checked)
    verdict, confidence, decisive = decide(findings)
    summary, fix = SUMMARY[verdict], decisive[0].fix if decisive else ""
    if isinstance(facts.fault, NotGGUF):
        verdict, confidence, summary = "not-a-gguf", "certain", f"this is {facts.fault.identity}"
        fix = fix or facts.fault.hint or ""
    elif verdict == "healthy" and facts.header is not None:
        verdict, summary, fix = judge_sound(facts, facts.header, findings)
    return Report(
        subject=facts.path,
        verdict=verdict,
        confidence=confidence,
        summary=summary,
        evidence=tuple(f.found for f in decisive),
        fix=fix,
        findings=findings,
        kind=facts.kind,
    )

"""The whole diagnosis of a file: facts, checks, verdict."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

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
from g4cli.doctor.facts.file_facts import Depth, FileFacts, gather
from g4cli.doctor.probe import compare
from g4cli.doctor.report import Check, Report, run_checks
from g4cli.doctor.verdict import SUMMARY, UNTRAINED, decide

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
        "FILE": shell_word(Path(facts.path) if not facts.path.startswith("hf:") else facts.path),
        "OUT": shell_word(Path(f"{Path(facts.path).stem}-mended.gguf")),
    }
    if facts.model_name:
        names["g4 pull MODEL"] = f"g4 pull {shell_word(facts.model_name)}"
    return re.sub(r"\b(?:FILE|OUT|g4 pull MODEL)\b", lambda m: names.get(m[0], m[0]), fix)


def judge(facts: FileFacts, only: tuple[str, ...] = ()) -> Report:
    """Return the report on facts already gathered."""
    findings = tuple(replace(f, fix=to_type(f.fix, facts)) for f in run_checks(CHECKS, facts, only))
    verdict, confidence, decisive = decide(findings)
    return Report(
        subject=facts.path,
        verdict=verdict,
        confidence=confidence,
        summary=UNTRAINED if verdict == "healthy" and facts.untrained else SUMMARY[verdict],
        evidence=tuple(f.found for f in decisive),
        fix=decisive[0].fix if decisive else "",
        findings=findings,
        is_gguf=file.is_gguf(facts),
    )

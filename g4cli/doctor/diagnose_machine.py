"""Diagnose this machine: facts, checks, verdict."""

from __future__ import annotations

from g4cli.doctor.checks.machine import CHECKS
from g4cli.doctor.facts.machine import MachineFacts, read_machine
from g4cli.doctor.probe.engine import ask_engine
from g4cli.doctor.report import Report, run_checks
from g4cli.doctor.verdict import SUMMARY, decide_verdict


def diagnose_machine(
    only: tuple[str, ...] = (), *, memory_total: int = 0, memory_free: int = 0
) -> Report:
    """Return the report on this machine. llama.cpp is asked in a child process, as it may crash.

    `memory_total` and `memory_free` are the bytes that processes here may use, 0 if unknown.
    """
    facts = read_machine(ask_engine(), memory_total=memory_total, memory_free=memory_free)
    return judge_machine(facts, only)


def judge_machine(facts: MachineFacts, only: tuple[str, ...] = ()) -> Report:
    """Return the report on facts already gathered."""
    findings = run_checks(CHECKS, facts, only)
    verdict, confidence, decisive = decide_verdict(findings)
    return Report(
        subject="this machine",
        verdict=verdict,
        confidence=confidence,
        summary="this machine is ready for g4" if verdict == "healthy" else SUMMARY[verdict],
        evidence=tuple(f.found for f in decisive),
        fix=decisive[0].fix if decisive else "",
        findings=findings,
    )

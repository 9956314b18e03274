"""Count the doctor's right verdicts on damaged files, faulty engines and healthy files.

    python tests/bench/bench_doctor.py [--no-run]

The kinds of damage, the faults and the healthy files come from tests/support/builders/damage.py,
tests/support/fakes/engine_faults.py and tests/support/builders/healthy.py.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.doctor.diagnose import diagnose_file, judge_facts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.report import Report
from tests.support.builders.damage import DAMAGES
from tests.support.builders.healthy import fixture_files, shaped_files, tiny_files
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.engine_faults import FAULTS, Engine


def main() -> int:
    """Print a row for each kind of damage and each fault, and the shares of right verdicts."""
    run = "--no-run" not in sys.argv[1:]
    good, started = build_tiny(), time.monotonic()
    kinds = [d for d in DAMAGES if run or not d.needs_run]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        right = 0
        for damage in kinds:
            path.write_bytes(damage.make(good))
            report = diagnose_path(path, run=run)
            right += print_row(damage.name, report, damage.verdicts)
        took = time.monotonic() - started
        print(
            f"{right} of {len(kinds)} verdicts on files right ({right / len(kinds):.1%}) in "
            f"{took:.0f} s"
        )
        path.write_bytes(good)
        engines = 0
        for fault in FAULTS:
            with patch("g4cli.doctor.probe.child.ask_child", Engine(fault)):
                report = diagnose_file(path, depth=fault.depth, only=("probe",))
            engines += print_row(fault.name, report, fault.verdicts)
        print(f"{engines} of {len(FAULTS)} verdicts on engines right")
        sound = list(check_healthy_files(Path(folder), run))
        print(f"{sum(sound)} of {len(sound)} sound files not called broken")
    return 0 if right >= 0.95 * len(kinds) and engines >= 0.95 * len(FAULTS) and all(sound) else 1


def diagnose_path(path: Path, *, run: bool) -> Report:
    """Return the report on a file; without `run`, llama.cpp does not run."""
    return diagnose_file(path) if run else judge_facts(gather_facts(path))


def check_healthy_files(folder: Path, run: bool) -> Iterator[bool]:
    """Yield for each healthy file whether the doctor does not call it broken."""
    for path in chain(tiny_files(folder), fixture_files(folder), shaped_files(folder)):
        report = diagnose_path(path, run=run)
        # A file without weights is no model yet: 'unknown' says so. Towers and vocabularies are not
        # run.
        sound = ("healthy", "not-checked", "unknown")
        yield print_row(path.stem, report, sound) and report.exit_code == 0


def print_row(name: str, report: Report, verdicts: tuple[str, ...]) -> bool:
    """Print a row and return whether the verdict is right."""
    hit = report.verdict in verdicts
    evidence = report.evidence[0][:90] if report.evidence else ""
    print(f"{'ok  ' if hit else 'MISS'} {name:22} {report.verdict:18} {evidence}", flush=True)
    return hit


if __name__ == "__main__":
    sys.exit(main())

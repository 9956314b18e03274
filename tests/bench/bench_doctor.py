"""Break a file in every way of tests/damage.py and print which verdicts are right.

python tests/bench/bench_doctor.py [--no-talk]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from damage import DAMAGES
from tiny_file import build_tiny

from g4cli.doctor.diagnose import judge
from g4cli.doctor.facts import gather


def main() -> int:
    """Print one row per kind of damage and the share of right verdicts."""
    talk = "--no-talk" not in sys.argv[1:]
    good, right, started = build_tiny(), 0, time.monotonic()
    kinds = [d for d in DAMAGES if talk or not d.needs_talk]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        for damage in kinds:
            path.write_bytes(damage.make(good))
            report = judge(gather(path, talk=talk))
            hit = report.verdict in damage.verdicts
            right += hit
            evidence = report.evidence[0][:90] if report.evidence else ""
            mark = "ok  " if hit else "MISS"
            print(f"{mark} {damage.name:22} {report.verdict:18} {evidence}", flush=True)
    took = time.monotonic() - started
    print(f"{right} of {len(kinds)} verdicts right ({right / len(kinds):.1%}) in {took:.0f} s")
    return 0 if right >= 0.95 * len(kinds) else 1


if __name__ == "__main__":
    sys.exit(main())

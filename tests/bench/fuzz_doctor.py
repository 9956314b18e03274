"""Fuzz the doctor with mutated files: it must report on each in bounded time without a crash.

    python tests/bench/fuzz_doctor.py [SECONDS] [SEED]

Mutates the bytes of a small GGUF (header, sizes, strings, data), the types and values of its keys,
and its chat template. Every report must contain no crashed check, print no control character, and
take less than 5 seconds.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stdout
from math import inf, nan
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from g4cli.cli.output import Output
from g4cli.cli.views.doctor import draw_report
from g4cli.doctor.bug_report import write_bug_report
from g4cli.doctor.diagnose import judge_facts
from g4cli.doctor.facts.gather import gather_facts
from tests.support.builders.gguf import BF16, F32, I8, Q8_0, Key, build_gguf, gemma4_keys
from tests.support.builders.other_kinds import foreign_keys, mmproj_keys

PIECES = (
    "{{ messages }}", "{% for m in messages %}", "{% endfor %}", "<|turn>", "{{ 'a' * 999999999 }}",
    "{% if x %}", "{{ ''.__class__ }}", "{{ messages[0].content }}", "{{ range(10**9) | list }}",
    "\x1b[2J", "\u202e", "{%", "{{ bos_token }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ '%999999999d' % 1 }}", "}}", "{#", "{% set x = messages %}", "{{ x.append(1) }}",
    "{{ cycler }}", "{{ 9 ** 9 ** 9 }}", "<turn|>\n", "\x00",
)  # fmt: skip
# Lengths and counts at the edges of what fits.
EDGES = tuple(
    n.to_bytes(8, "little")
    for n in (0, 1, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
)
# Types and values for keys of which something else is expected.
VALUES: tuple[tuple[str, Any], ...] = (
    ("u32", 0), ("u64", 2**40), ("u64", 2**64 - 1), ("i64", -1), ("f32", nan), ("f32", inf),
    ("str", "x"), ("bool", True), ("[u32]", []), ("[f32]", [nan]), ("[str]", ["a", "b"]),
)  # fmt: skip


def make_base_file(r: random.Random) -> bytes:
    """Return a small file with a valid structure and a template of random pieces."""
    template = "".join(r.choice(PIECES) for _ in range(r.randint(0, 12)))
    name = r.choice(["small", "\x1b]0;owned\x07", "a" * 300, "\u202etxt.exe"])
    keys = gemma4_keys(
        replace={"general.name": ("str", name), "tokenizer.chat_template": ("str", template)}
    )
    label: list[Key] = [
        ("g4.format", "str", "SFP8"),
        ("g4.container", "str", r.choice(["I8", "BF16", "F32", "Q9"])),
        ("g4.sfp8.tensors", "[str]", ["blk.0.attn_q.weight", "blk.0.ffn_gate.weight"]),
        ("g4.sfp8.decode_bf16", "[u16]", list(range(256))),
    ]
    keys = [*keys, *(label if r.random() < 0.3 else [])]
    keys = r.choice([keys, keys, foreign_keys("llama"), mmproj_keys("gemma4v")])
    keys += [("split.count", "u32", 1), ("split.no", "u32", 0)]
    for _ in range(r.choice([0, 0, 1, 3])):
        place = r.randrange(len(keys))
        keys[place] = (keys[place][0], *r.choice(VALUES))
    values = (
        np.random.default_rng(r.randrange(2**32)).standard_normal(64 * 16).astype("<f4").tobytes()
    )
    tensors = [
        ("token_embd.weight", F32, [64, 16], values),
        ("rope_freqs.weight", F32, [16], values[:64]),
        ("blk.0.attn_q.weight", BF16, [64, 64], None),
        ("blk.0.ffn_up.weight", Q8_0, [64, 128], None),
        ("blk.0.ffn_gate.weight", I8, [64, 128], r.randbytes(64 * 128)),
    ]
    return build_gguf(keys, tensors)


def mutate_file(data: bytes, r: random.Random) -> bytes:
    """Return the file with a few bytes, lengths or pieces changed, moved, cut or doubled."""
    out = bytearray(data)
    for _ in range(r.choice([0, 1, 1, 1, 2, 4, 16])):
        at = r.randrange(len(out))
        act = r.randrange(6)
        if act == 0:
            out[at] = r.randrange(256)
        elif act == 1:
            out[at : at + 8] = r.choice(EDGES)
        elif act == 2:
            del out[at : at + r.choice([1, 8, 100, 5000])]
        elif act == 3:
            out[at:at] = out[max(0, at - r.choice([1, 8, 64])) : at]
        elif act == 4:
            out[at] ^= 1 << r.randrange(8)
        else:
            out[at : at + 4] = r.randrange(2**32).to_bytes(4, "little")
        if not out:
            return b""
    return bytes(out)


def check_report(path: Path) -> str:
    """Return the verdict on a file after every way to show it. Raises AssertionError for a fault of
    g4.
    """
    started = time.monotonic()
    report = judge_facts(gather_facts(path))
    crashed = [f for f in report.findings if f.status == "crash"]
    assert not crashed, crashed
    shown = io.StringIO()
    with redirect_stdout(shown):
        draw_report(Output(), report)
    for text in (shown.getvalue(), write_bug_report(report)):
        odd = {
            c
            for c in text
            if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or c in "\u202e\u2066"
        }
        assert not odd, odd
    assert time.monotonic() - started < 5, "too slow"
    return report.verdict


def main() -> None:
    """Fuzz for the given time and print the verdicts."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    verdicts: Counter[str] = Counter()
    started, number = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        while time.monotonic() - started < seconds:
            r = random.Random(f"{seed}/{number}")
            path.write_bytes(mutate_file(make_base_file(r), r))
            try:
                verdicts[check_report(path)] += 1
            except Exception:
                print(f"seed {seed}, file {number}")
                raise
            number += 1
    print(f"{number} files in {seconds:.0f} s, no fault: {dict(verdicts)}")


if __name__ == "__main__":
    main()

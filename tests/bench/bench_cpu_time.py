"""Compare CPU seconds per token of g4 and llama-bench, with one thread each.

Other work on the machine hardly changes this measure.

    python tests/bench/bench_cpu_time.py FILE LLAMA_BIN [--gen 8 40] [--prompt 64 320] [--rounds 3]

Each side runs a short and a long test; the difference of their CPU times (user and system), divided
by the difference of their tokens, is free of loading and warming up. Rounds are interleaved.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

G4 = [sys.executable, "-c", "from g4cli.cli.main import main; main()"]


def cpu_seconds(command: Sequence[Any]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        list(map(str, command)), check=True, capture_output=True, stdin=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("llama_bin", type=Path)
    parser.add_argument("--gen", type=int, nargs=2, default=(8, 40))
    parser.add_argument("--prompt", type=int, nargs=2, default=(64, 320))
    parser.add_argument("--only", choices=("tg", "pp"), help="one of the two tests")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    def per_token(side: str, kind: str, lengths: Sequence[int]) -> float:
        spent = []
        for length in lengths:
            tokens = ["-p", length, "-n", 0] if kind == "pp" else ["-p", 0, "-n", length]
            command = (
                [
                    args.llama_bin / "llama-bench",
                    "-m",
                    args.file,
                    "-t",
                    1,
                    "-r",
                    1,
                    "--no-warmup",
                    *tokens,
                ]
                if side == "llama"
                else [*G4, "bench", args.file, "-t", 1, "-r", 1, "--no-warmup", "--json", *tokens]
            )
            spent.append(cpu_seconds(command))
        return (spent[1] - spent[0]) / (lengths[1] - lengths[0])

    tests = [t for t in (("tg", args.gen), ("pp", args.prompt)) if args.only in (None, t[0])]
    per_token("g4", *tests[0])  # kernels probed, the file tried
    found: dict[str, list[float]] = {}
    for number in range(args.rounds):
        for side in ("llama", "g4") if number % 2 == 0 else ("g4", "llama"):
            for kind, lengths in tests:
                found.setdefault(f"{side} {kind}", []).append(per_token(side, kind, lengths))
        print(
            {name: f"{values[-1] * 1000:.3f} ms" for name, values in found.items()},
            file=sys.stderr,
            flush=True,
        )
    ratios = {
        kind: statistics.median(
            c / g for c, g in zip(found[f"llama {kind}"], found[f"g4 {kind}"], strict=True)
        )
        for kind, _ in tests
    }
    print(json.dumps({"cpu_s_per_token": found, "speed g4/llama": ratios}, indent=1))


if __name__ == "__main__":
    main()

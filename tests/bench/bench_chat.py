"""Compare the speed of g4's engine with llama.cpp's own tools, in turn on one file.

    python tests/bench/bench_chat.py FILE LLAMA_BIN [--rounds 3] [--prompt 512] [--gen 64]
        [--threads N] [--depths 100,4000 [--only-depths]]

FILE is a model, preferably of a real shape (-m tests.support.builders.real_shapes e2b q4_0 FILE
--weights random). LLAMA_BIN is the folder of llama-bench and llama-completion, built from the
sources of the same llama-cpp-python with the same CMAKE_ARGS. Prints one JSON document: medians,
ratios, the time that Python takes per token, and with --depths the decoding speed at the last depth
relative to the first, for both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))

G4 = [sys.executable, "-c", "from g4cli.cli.main import main; main()"]


def llama_bench(folder: Path, file: Path, args: argparse.Namespace) -> dict[str, float]:
    command = [
        folder / "llama-bench",
        "-m",
        file,
        "-p",
        args.prompt,
        "-n",
        args.gen,
        "-r",
        1,
        "-o",
        "json",
        "-t",
        args.threads,
        "-fa",
        "auto",
    ]
    rows = json.loads(
        subprocess.run(list(map(str, command)), check=True, capture_output=True).stdout
    )
    return {"pp" if row["n_prompt"] else "tg": row["avg_ts"] for row in rows}


def g4_bench(file: Path, args: argparse.Namespace) -> dict[str, float]:
    command = [
        *G4,
        "bench",
        file,
        "-p",
        args.prompt,
        "-n",
        args.gen,
        "-r",
        1,
        "-t",
        args.threads,
        "--json",
    ]
    data = json.loads(
        subprocess.run(list(map(str, command)), check=True, capture_output=True).stdout
    )
    return {test["test"][:2]: test["tokens_per_s"] for test in data["tests"]}


def read_speeds(command: Sequence[Any], key: str) -> dict[int, float]:
    """Return decoding speed by depth from the JSON of llama-bench or g4 bench."""
    data = json.loads(
        subprocess.run(list(map(str, command)), check=True, capture_output=True).stdout
    )
    rows = data if isinstance(data, list) else data["tests"]
    return {row["n_depth"]: row[key] for row in rows}


def compare_depths(file: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Return the decoding speeds of both at each depth, measured in turn in every round."""
    same = ["-p", 0, "-n", args.gen, "-r", 3, "-d", args.depths, "-t", args.threads]
    commands = {
        "llama": [args.llama_bin / "llama-bench", "-m", file, *same, "-fa", "auto", "-o", "json"],
        "g4": [*G4, "bench", file, *same, "--json"],
    }
    speeds: dict[str, list[dict[int, float]]] = {"llama": [], "g4": []}
    for number in range(args.rounds):
        for side in ("llama", "g4") if number % 2 == 0 else ("g4", "llama"):
            key = "avg_ts" if side == "llama" else "tokens_per_s"
            speeds[side].append(read_speeds(commands[side], key))
            print(f"round {number + 1}, {side}: {speeds[side][-1]}", file=sys.stderr)
    first, *_, last = (int(depth) for depth in args.depths.split(","))
    kept = {
        side: [found[last] / found[first] for found in rounds] for side, rounds in speeds.items()
    }
    beyond = statistics.median(g / c for g, c in zip(kept["g4"], kept["llama"], strict=True))
    return {
        "decode by depth": speeds,
        "kept": {side: statistics.median(values) for side, values in kept.items()},
        "kept, g4/llama": beyond,
    }


def measure_chat(file: Path, args: argparse.Namespace) -> dict[str, float]:
    """Return the figures of a complete answer, with sampling, text, parser and loop detector."""
    command = [
        *G4,
        "chat",
        file,
        "-p",
        "Tell me a story.",
        "-n",
        args.gen,
        "-t",
        args.threads,
        "--json",
        "--no-loop-stop",
        "-c",
        1024,
        "--seed",
        1,
    ]
    data = json.loads(
        subprocess.run(
            list(map(str, command)), check=True, capture_output=True, stdin=subprocess.DEVNULL
        ).stdout
    )
    return {"tokens": data["usage"]["completion_tokens"], "tg": data["timing"]["decode_tps"]}


def measure_first_token(command: Sequence[Any]) -> float:
    """Return the seconds from the start of a command to the end of its one-token answer."""
    started = time.perf_counter()
    subprocess.run(
        list(map(str, command)), check=True, capture_output=True, stdin=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def measure_python_share(n_tokens: int) -> float:
    """Return the milliseconds per token outside of llama.cpp: parser, decoder, detector, events."""
    from g4cli.chat import TurnOptions, run_turn
    from tests.unit.chat.test_turn import ScriptedEngine

    engine = ScriptedEngine(*(f" word{i % 977}" for i in range(n_tokens)), n_ctx=10 * n_tokens)
    started = time.perf_counter()
    for _ in run_turn(engine, [1, 2, 3], TurnOptions()):
        pass
    return 1000 * (time.perf_counter() - started) / n_tokens


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("llama_bin", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--depths", default="")
    parser.add_argument("--only-depths", action="store_true")
    args = parser.parse_args()
    if args.only_depths:
        print(json.dumps(compare_depths(args.file, args), indent=1))
        return
    g4_one = [
        *G4,
        "chat",
        args.file,
        "-p",
        "Hi",
        "-n",
        1,
        "--temp",
        0,
        "-c",
        4096,
        "-t",
        args.threads,
    ]
    llama_one = [
        args.llama_bin / "llama-completion",
        "-m",
        args.file,
        "-p",
        "Hi",
        "-n",
        1,
        "--temp",
        0,
        "-c",
        4096,
        "-t",
        args.threads,
        "-no-cnv",
        "-st",
        "--no-warmup",
    ]
    measure_first_token(g4_one)  # kernels probed, the file tried and in the page cache
    found: dict[str, list[float]] = {}
    for number in range(args.rounds):
        # The order alternates, so that a drift of the machine does not favour one side.
        for side in ("llama", "g4") if number % 2 == 0 else ("g4", "llama"):
            if side == "llama":
                speeds = llama_bench(args.llama_bin, args.file, args)
                found.setdefault("llama first token s", []).append(measure_first_token(llama_one))
            else:
                speeds = g4_bench(args.file, args)
                found.setdefault("g4 first token s", []).append(measure_first_token(g4_one))
                found.setdefault("g4 chat tg", []).append(measure_chat(args.file, args)["tg"])
            for test, value in speeds.items():
                found.setdefault(f"{side} {test}", []).append(value)
        print(
            f"round {number + 1}: { ({k: round(v[-1], 3) for k, v in found.items()}) }",
            file=sys.stderr,
        )
    medians = {name: statistics.median(values) for name, values in found.items()}
    ratios = {
        f"{test} g4/llama": statistics.median(
            g / c for g, c in zip(found[f"g4 {test}"], found[f"llama {test}"], strict=True)
        )
        for test in ("pp", "tg")
    }
    extra = statistics.median(
        g - c for g, c in zip(found["g4 first token s"], found["llama first token s"], strict=True)
    )
    share: dict[str, Any] = {
        f"python ms a token, {n} tokens": measure_python_share(n) for n in (1000, 4000, 16000)
    }
    if args.depths:
        share |= compare_depths(args.file, args)
    document = {
        "samples": found,
        "medians": medians,
        "ratios": ratios,
        "first token, g4 - llama, s": extra,
    }
    print(json.dumps({**document, **share}, indent=1))


if __name__ == "__main__":
    main()

"""Measure what saved states cost: writing one during an answer, and from which length they pay.

    python tests/bench/bench_state_costs.py FILE writing --folder STATES [--tokens 8000] [--pairs 3]
    python tests/bench/bench_state_costs.py FILE worth

`writing` decodes answers in pairs. One of each pair writes the state of the whole prompt meanwhile,
none of whose blocks is there yet: the most that there ever is to write. STATES is what
`bench_states.py --folder` has left of the same prompt. `worth` reads prompts of a few lengths, and
writes and restores their states. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))

from g4cli.runtime.engine.context import Context  # noqa: E402
from g4cli.runtime.engine.llama_engine import LlamaEngine  # noqa: E402
from g4cli.runtime.engine.model import Model  # noqa: E402
from g4cli.runtime.engine.options import (  # noqa: E402
    ContextOptions,
    ModelOptions,
    StateOptions,
)
from g4cli.runtime.engine.state_cache import StateCache  # noqa: E402
from g4cli.runtime.engine.state_copy import allocate_state, put_state, take_state  # noqa: E402
from g4cli.runtime.engine.state_layout import find_tables  # noqa: E402
from g4cli.runtime.llama.interrupt import Interrupt  # noqa: E402
from g4cli.store.states.folder import About, StateFolder, StateName  # noqa: E402
from g4cli.store.states.keys import make_namespace  # noqa: E402
from tests.bench.bench_states import GREEDY, LIMIT, make_prompt  # noqa: E402

LENGTHS = (32, 64, 128, 256, 512)
N_QUESTION = 40


def measure_writing(args: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of answers with and without a state that is written meanwhile."""
    model = Model(args.file, ModelOptions())
    engine = LlamaEngine(model, ContextOptions(args.ctx, n_threads=args.threads), Interrupt())
    cache = StateCache(
        StateOptions(args.folder, LIMIT, "bench", "bench"), model, ModelOptions(), "f16"
    )
    engine.use_states(cache)
    prompt, own = make_prompt(args.tokens, model.n_vocab), cache.namespace
    is_worthwhile = cache.is_worthwhile
    tokens = make_prompt(args.answer + 1, model.n_vocab)[1:]
    answers: dict[str, list[dict[str, float]]] = {"without": [], "writing": []}
    for number in range(2 * args.pairs):
        # In turn, and in the other order in every second pair.
        mode = ("without", "writing")[(number + number // 2) % 2]
        question = make_prompt(N_QUESTION + number, model.n_vocab)[number:]
        cache.namespace = own
        cache.is_worthwhile = lambda *_: False  # type: ignore[method-assign]
        engine.begin(GREEDY)
        read = engine.evaluate([*prompt, *question])
        assert read.reused >= args.tokens, read
        if mode == "writing":
            cache.namespace = make_namespace([number])
            cache.is_worthwhile = is_worthwhile  # type: ignore[method-assign]
        started = time.perf_counter()
        for token in tokens:
            engine.advance(token)
        seconds = time.perf_counter() - started
        finished = cache.finish(60)
        assert finished
        written = sum(path.stat().st_size for path in (args.folder / cache.namespace).glob("*"))
        answers[mode].append({"seconds": round(seconds, 3), "written": written})
    if written := [folder for folder in args.folder.iterdir() if folder.name != own]:
        for folder in written:
            for path in folder.glob("*") if folder.is_dir() else ():
                path.unlink()
    sums = {mode: sum(answer["seconds"] for answer in found) for mode, found in answers.items()}
    engine.close()
    return {
        "prompt_tokens": args.tokens,
        "answer_tokens": args.answer,
        "answers": answers,
        "cost_percent": round(100 * (sums["writing"] / sums["without"] - 1), 2),
        "cost_s": round((sums["writing"] - sums["without"]) / args.pairs, 3),
    }


def measure_worth(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return for each length the seconds of reading, and of writing and restoring its state."""
    model = Model(args.file, ModelOptions())
    found = []
    for n_tokens in LENGTHS:
        for kv_type in args.kv:
            options = ContextOptions(1024, kv_type=kv_type, n_threads=args.threads)
            read, restored = (Context(model, options, Interrupt()) for _ in range(2))
            prompt = make_prompt(n_tokens, model.n_vocab)
            read.decode_tokens(prompt)  # the first time pages of the weights come in
            read.truncate(0)
            clock = [time.perf_counter()]
            read.decode_tokens(prompt)
            read.get_logits()
            clock.append(time.perf_counter())
            state = take_state(read)
            assert state is not None
            clock.append(time.perf_counter())
            name, space = StateName(n_tokens, "0" * 32), make_namespace([n_tokens])
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                states = StateFolder(Path(folder), LIMIT)
                about = About("bench", "bench", kv_type)
                states.write_state(space, about, name, state, find_tables(state, n_tokens))
                clock.append(time.perf_counter())
                came = states.read_state(space, name, allocate_state)
                assert came is not None
                assert put_state(restored, came[1])
                clock.append(time.perf_counter())
            names = ("read_s", "take_s", "write_s", "restore_s")
            seconds = [round(b - a, 4) for a, b in itertools.pairwise(clock)]
            found.append(
                {
                    "tokens": n_tokens,
                    "kv": kv_type,
                    "bytes": len(state),
                    **dict(zip(names, seconds, strict=True)),
                }
            )
            read.close()
            restored.close()
    model.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("part", choices=["writing", "worth"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--kv", nargs="+", default=["f16"])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--answer", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    args.ctx = (args.tokens + 1024 + 255) // 256 * 256
    measure = measure_writing if args.part == "writing" else measure_worth
    print(json.dumps({"file": args.file.name, args.part: measure(args)}, indent=1))


if __name__ == "__main__":
    main()

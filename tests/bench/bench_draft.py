"""Measure speculative decoding: the cost of batches, prompt lookup, a draft model by acceptance.

    python tests/bench/bench_draft.py FILE [--draft DRAFT] [--rounds 3] [--gen 96] [--threads N]

FILE has preferably a real shape (-m tests.support.builders.real_shapes e2b q4_0 FILE --weights
random), DRAFT is its draft model (the same with --draft). The answers are given, in English,
because a network of random weights writes nothing that could be drafted. For the same reason the
acceptance rate of a draft model cannot be measured: its drafts are replaced by tokens that are
right with probability p, at the cost of real drafts. Prints one JSON document. Plain decoding and
drafting take turns, and each kind of step counts with its median.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))

from g4cli.runtime.engine.context import Context  # noqa: E402
from g4cli.runtime.engine.draft_model import DraftModel  # noqa: E402
from g4cli.runtime.engine.drafting import N_DRAFT  # noqa: E402
from g4cli.runtime.engine.llama_engine import LlamaEngine, open_engine  # noqa: E402
from g4cli.runtime.engine.options import ContextOptions, ModelOptions, Sampling  # noqa: E402
from g4cli.runtime.engine.speculation import LookupDrafter, Speculation  # noqa: E402
from g4cli.runtime.llama.library import load_llama  # noqa: E402

TEXT = TESTS.parent / "README.md"
RATES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
N_PROMPT = 300


class PaidOracle:
    """Runs the draft model, but returns the right tokens, each with probability `p`."""

    cost = DraftModel.cost

    def __init__(self, network: DraftModel, truth: Sequence[int], p: float) -> None:
        self._network, self._truth, self._p = network, truth, p
        self._rng = random.Random(1)

    def set_tokens(self, tokens: Sequence[int]) -> None: ...
    def add_token(self, token: int) -> None: ...
    def close(self) -> None: ...

    def draft_round(self, token: int, position: int) -> list[int]:
        self._network.draft_round(token, position)
        true = self._truth[position + 1 : position + 1 + N_DRAFT]
        return [t if self._rng.random() < self._p else 9 for t in true]


def measure_batches(engine: LlamaEngine, depth: int, rounds: int) -> dict[str, float]:
    """Return the time of batches of 1 to 8 tokens at `depth`, relative to a single token."""
    context = engine.context
    tokens = [2, *(random.Random(0).randrange(300, engine.model.n_vocab) for _ in range(depth + 8))]
    context.truncate(0)
    for start in range(0, depth, context.n_batch):
        context.decode_tokens(tokens[start : min(depth, start + context.n_batch)])
    times: dict[int, list[float]] = {n: [] for n in range(1, 9)}
    for _ in range(rounds + 1):
        for n, found in times.items():
            context.truncate(depth)
            started = time.perf_counter()
            context.decode_with_logits(tokens[depth : depth + n])
            load_llama().llama_synchronize(context.handle)
            found.append(time.perf_counter() - started)
    context.truncate(0)
    single = statistics.median(times[1][1:])
    ratios = {str(n): round(statistics.median(found[1:]) / single, 2) for n, found in times.items()}
    return {"single_ms": round(1000 * single, 1), **ratios}


Steps = dict[str, list[float]]


def time_answer(
    engine: LlamaEngine, prompt: Sequence[int], answer: Sequence[int]
) -> tuple[Steps, float]:
    """The seconds of each step of a given answer, sampling included, by kind; and the share of
    accepted drafts.

    A token is evaluated alone ("single"), begins a round ("round", with its drafts), or was
    drafted ("accepted", already evaluated).
    """
    engine.begin(Sampling(seed=1))
    engine.evaluate(prompt)
    steps: Steps = {"single": [], "round": [], "accepted": []}
    drafted_before = accepted_before = 0
    for token in answer:
        started = time.perf_counter()
        engine.sample()
        engine.advance(token)
        load_llama().llama_synchronize(engine.context.handle)
        seconds = time.perf_counter() - started
        drafted = engine.drafted
        now = (drafted.n_drafted, drafted.n_accepted) if drafted else (0, 0)
        kind = (
            "accepted"
            if now[1] > accepted_before
            else "round"
            if now[0] > drafted_before
            else "single"
        )
        drafted_before, accepted_before = now
        steps[kind].append(seconds)
    return steps, accepted_before / drafted_before if drafted_before else 0.0


def compare_speeds(
    engine: LlamaEngine,
    drafters: dict[str, Callable[[Context], Any]],
    prompt: Sequence[int],
    answer: Sequence[int],
    rounds: int,
) -> dict[str, Any]:
    """Tokens per second of each drafter, beside plain decoding, in turn.

    Each kind of step counts with its median: on a busy machine sums measure the neighbours.
    """
    found: dict[str, list[tuple[Steps, float]]] = {"plain": [], **{name: [] for name in drafters}}
    for _ in range(rounds):
        for name, samples in found.items():
            # Not attach_drafter: it would empty the memory, and the prompt be read anew each time.
            drafter = drafters[name](engine.context) if name in drafters else None
            engine._speculation = (
                Speculation(engine.context, drafter, "not asked for") if drafter else None
            )
            samples.append(time_answer(engine, prompt, answer))
    single = statistics.median(t for s in found.values() for steps, _ in s for t in steps["single"])
    result: dict[str, Any] = {"plain tokens_per_s": round(1 / single, 2)}
    for name in drafters:
        seconds = 0.0
        for kind in ("round", "accepted"):
            times = [t for steps, _ in found[name] for t in steps[kind]]
            seconds += len(times) * statistics.median(times) if times else 0.0
        seconds += single * sum(len(steps["single"]) for steps, _ in found[name])
        result[name] = {
            "tokens_per_s": round(rounds * len(answer) / seconds, 2),
            "ratio": round(rounds * len(answer) * single / seconds, 3),
            "accepted": round(statistics.median(share for _, share in found[name]), 2),
            "rounds": sum(len(steps["round"]) for steps, _ in found[name]) // rounds,
        }
    return result


def make_texts(engine: LlamaEngine, count: int) -> dict[str, tuple[list[int], list[int]]]:
    """Return prompts with given answers: continued prose, or the prompt with changed words."""
    words = TEXT.read_text(encoding="utf-8")
    prose = engine.model.tokenize(words[words.index("## Is it broken") :], control=False)
    prompt = [max(engine.model.bos, 0), *prose[:N_PROMPT]]
    edited = [9 if i % 25 == 24 else token for i, token in enumerate(prose[50 : 50 + count])]
    return {
        "new text": (prompt, prose[N_PROMPT : N_PROMPT + count]),
        "edited text": (prompt, edited),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gen", type=int, default=96)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rates", type=float, nargs="*", default=RATES)
    args = parser.parse_args()
    options = ContextOptions(2048, n_threads=args.threads, n_outputs=8)
    with open_engine(args.file, model_options=ModelOptions(), context_options=options) as engine:
        data: dict[str, Any] = {
            "batch": {
                f"behind {d} tokens": measure_batches(engine, d, args.rounds) for d in (100, 1500)
            }
        }
        cases = make_texts(engine, args.gen)
        for name, (prompt, answer) in cases.items():
            data[name] = compare_speeds(
                engine, {"lookup": lambda _: LookupDrafter()}, prompt, answer, args.rounds
            )
        if args.draft:
            prompt, answer = cases["new text"]
            truth = [*prompt, *answer]
            network = DraftModel(args.draft, engine.context, ModelOptions())
            engine.context.truncate(0)  # the network shares the cells, and has emptied them
            engine._sequence.tokens = []
            data["network by acceptance"] = compare_speeds(
                engine,
                {str(p): lambda _, p=p: PaidOracle(network, truth, p) for p in args.rates},
                # type: ignore[misc]
                prompt,
                answer,
                args.rounds,
            )
            network.close()
            engine._speculation = None
    print(json.dumps(data, indent=1))


if __name__ == "__main__":
    main()

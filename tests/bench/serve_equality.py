"""How many greedy answers differ among others from what they are alone, and why any would.

    python tests/bench/serve_equality.py FILE [--answers 1000] [--parallel 4] [--threads 1]

The same prompts are answered one by one in an empty context, and then all together by the scheduler
with --parallel slots. Kernels may round differently for one token and for several (see
`g4cli.runtime.engine.speculation`), so an answer may differ where two tokens are nearly equal.
Prints one JSON document; `margins` tells of each answer that differs how much more probable, in
nats, the first token that differs was than the next best one. A large margin is a bug.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.chat import TurnOptions
from g4cli.prompt.reply import SampledToken
from g4cli.runtime.engine.messages import RunTurn
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions, Sampling
from g4cli.runtime.engine.scheduler import Scheduler
from tests.support.fakes.pipe import Pipe

WORDS = [
    "what",
    "who",
    "is",
    "are",
    "the",
    "a",
    "context",
    "gguf",
    "llama",
    "model",
    "file",
    "token",
    "answer",
    "tell",
    "me",
    "about",
    "haiku",
    "write",
    "2",
    "3",
    "+",
    "you",
    "window",
    "cache",
    "of",
    "for",
    "in",
    "Gemma",
    "quantize",
]
OPTIONS = TurnOptions(max_tokens=96, on_loop="ignore", n_probs=2)


def answer_all(scheduler: Scheduler, pipe: Pipe, turns: list[RunTurn]) -> list[list[SampledToken]]:
    """Return the tokens of the answers to `turns`, which run at once, with their rivals."""
    numbers = [len(pipe.told) + 1 + i for i in range(len(turns))]
    for number, turn in zip(numbers, turns, strict=True):
        scheduler.add_turn(number, turn)
    while scheduler.has_work:
        scheduler.run_step()
    return [
        [token for event in pipe.told[number] for token in getattr(event, "tokens", ())]
        for number in numbers
    ]


def find_margin(alone: list[SampledToken], among: list[SampledToken]) -> float | None:
    """Return by how many nats the first token that differs was the best; None if none does."""
    for a, b in zip(alone, among, strict=False):
        if a.id != b.id:
            return a.top[0].logprob - a.top[1].logprob
    return None


def forget_prompts(scheduler: Scheduler) -> None:
    """Let the next prompts be evaluated afresh."""
    for slot in scheduler._slots:
        slot.sequence.truncate(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    random.seed(1)
    model, pipe = Model(args.file), Pipe()
    options = ContextOptions(1024, n_parallel=args.parallel, n_threads=args.threads)
    scheduler = Scheduler(model, options, pipe)  # type: ignore[arg-type]
    turns = []
    for _ in range(args.answers):
        words = " ".join(random.choices(WORDS, k=random.randrange(3, 40)))
        text = f"<|turn>user\n{words}<turn|>\n<|turn>model\n"
        prompt = (model.bos, *model.tokenize(text, control=True))
        turns.append(RunTurn(prompt, Sampling(temp=0), OPTIONS))
    alone = []
    for turn in turns:
        forget_prompts(scheduler)
        alone += answer_all(scheduler, pipe, [turn])
    forget_prompts(scheduler)
    together = answer_all(scheduler, pipe, turns)
    margins = [find_margin(a, b) for a, b in zip(alone, together, strict=True)]
    found = sorted(margin for margin in margins if margin is not None)
    figures = {"answers": len(turns), "tokens": sum(map(len, alone)), "different": len(found)}
    print(json.dumps({**figures, "margins": found, "parallel": args.parallel}))


if __name__ == "__main__":
    main()

"""How often an answer that is cut back before its loop comes to a proper end: `--on-loop retry`.

    python tests/bench/bench_loop_retry.py ANSWERS.jsonl MODEL.gguf [--tokens 600] [--loops 48]

ANSWERS comes from real_loops.py, MODEL is the file that gave them. Each answer that the detector
stops is continued from where its loop began, one copy kept, in several ways:

ban     the token that went on with the loop is banned at that place
warm    the temperature is 1.0 at least from there on
both    what g4 does
again   neither: the same place at the same temperature, with other random numbers

An answer "ends" if the model ends it; it "loops" if the detector stops it again; else it is cut off
after --tokens more.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from bench_real_loops import Vocabulary, find_stop
from numpy.typing import NDArray
from real_loop_prompts import Prompt
from real_loops import N_PARALLEL, Answer, Model

from g4cli.loops.detector import LoopDetector
from g4cli.runtime.engine.llama_engine import RETRY_TEMP

WAYS = ("ban", "warm", "both", "again")


class Retry(Answer):
    """A continued answer: `banned` is never its first token (-1: nothing is banned)."""

    def __init__(
        self,
        row: dict[str, Any],
        way: str,
        feed: list[int],
        kept: list[int],
        banned: int,
        detector: LoopDetector,
    ) -> None:
        temperature = row["temperature"]
        if way in ("warm", "both"):
            temperature = max(temperature, RETRY_TEMP)
        prompt = Prompt(row["kind"], row["mode"], row["prompt"])
        super().__init__(prompt, temperature, 7, [*feed, *kept])
        self.way, self._banned = way, banned if way in ("ban", "both") else -1
        self._detector = detector
        for token in kept:
            self._detector.feed(token)

    def take_logits(self, logits: NDArray[np.float32], ends: set[int], longest: int) -> None:
        """Choose the next token; a loop ends the answer too."""
        if self._banned >= 0:
            logits[self._banned], self._banned = -np.inf, -1
        super().take_logits(logits, ends, longest)
        if self.ended == "end":
            return
        wanted = self.p[-1] if self._detector.wants_probability else None
        if self._detector.feed(self.tokens[-1], wanted):
            self.ended = "loop"


def make_retries(
    model: Model, vocabulary: Vocabulary, rows: list[dict[str, Any]], most: int
) -> list[Retry]:
    """Return every way to continue each of the first `most` answers that the detector stops."""
    retries: list[Retry] = []
    for row in rows:
        detector = vocabulary.make_detector()
        place = find_stop(detector, row, with_p=True)
        if place < 0 or len(retries) >= most * len(WAYS):
            continue
        loop = detector.feed(row["tokens"][place])  # a loop once found stays
        assert loop is not None
        n_kept = loop.onset if loop.kind.startswith("few") else loop.onset + loop.period
        feed = model.tokenize(Prompt(row["kind"], row["mode"], row["prompt"]))
        kept, banned = row["tokens"][:n_kept], row["tokens"][n_kept]
        for way in WAYS:
            retries.append(Retry(row, way, feed, kept, banned, vocabulary.make_detector()))
    return retries


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("answers", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=600)
    parser.add_argument("--loops", type=int, default=48)
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.answers.open(encoding="utf-8")]
    longest = max(len(row["tokens"]) for row in rows)
    model = Model(args.model, longest + args.tokens, 1)
    waiting = make_retries(model, Vocabulary(args.model), rows, args.loops)
    print(f"{len(waiting) // len(WAYS)} answers that the detector stops")
    ended: Counter[tuple[str, str]] = Counter()
    running: dict[int, Retry] = {}
    while waiting or running:
        for slot in range(N_PARALLEL):
            if slot not in running and waiting:
                running[slot] = waiting.pop(0)
        for slot, logits in model.decode(running).items():
            retry = running[slot]
            retry.take_logits(logits, model.ends, args.tokens)
            if retry.ended:
                ended[retry.way, retry.ended] += 1
                del running[slot]
                model.forget(slot)
    print("| way | ended | looped again | cut off |\n|---|--:|--:|--:|")
    for way in WAYS:
        cut = ended[way, "length"] + ended[way, "stuck"]
        print(f"| {way} | {ended[way, 'end']} | {ended[way, 'loop']} | {cut} |")


if __name__ == "__main__":
    main()

"""Measure the loop detector on answers of real models, beside the published rules.

    python tests/bench/bench_real_loops.py ANSWERS.jsonl [MODEL-read.jsonl] MODEL.gguf [--rules]
    python tests/bench/bench_real_loops.py ANSWERS.jsonl MODEL.gguf --show KIND

ANSWERS comes from real_loops.py, MODEL is the file that gave them (only its vocabulary is read).
Texts that it read are no loops, whatever they look like.
The labels do not use the detector: they look at the whole answer, also at what follows.

loop      the answer did not end by itself, and its last 300 tokens and more brought no new 8-gram
          (a number counts as one token, so that a counter is a loop too)
asked     the same, but the prompt asked for a sequence to be counted up: neither loop nor text
doubtful  the answer ended by itself after such a stretch, or it was cut off in a shorter one
          of 150 tokens and more; neither loop nor text
text      everything else

A loop begins with the first copy of what is repeated. Its kind is that of its tail: an exact cycle
by its period; "counter" if numbers change; else "noisy". A stop before the beginning counts as a
false stop; waste is counted from the beginning to the stop. The table of kinds says how many loops
of a kind a rule finds, and its median waste.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from bench_loops import RULES, Rule

from g4cli.loops.detector import LoopDetector
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ModelOptions

GRAM = 8
STALE, DOUBTFUL = 300, 150
COUNTING, READ = "counting", "read"


@dataclass(frozen=True)
class Answer:
    """One answer with its label; `onset` is where a loop begins, -1 without one."""

    row: dict[str, Any]
    label: str
    kind: str
    onset: int = -1


def collapse_numbers(tokens: Sequence[int], digits: Mapping[int, int]) -> list[int]:
    """Return the tokens with one -1 for each number.

    The list has as many entries as `tokens`: the digits of a number after its first are -2, which
    `find_stale` skips.
    """
    out: list[int] = []
    for token in tokens:
        out.append(token if token not in digits else -2 if out and out[-1] < 0 else -1)
    return out


def find_stale(tokens: Sequence[int]) -> tuple[int, int]:
    """Return where the stretch without new 8-grams at the end begins, and how long its cycle is.

    The cycle is the commonest distance between equal 8-grams there, 0 if there is no stretch.
    """
    kept = [i for i, token in enumerate(tokens) if token != -2]
    seen: dict[tuple[int, ...], int] = {}
    newest, lags = 0, Counter[int]()
    for n, i in enumerate(kept):
        gram = tuple(tokens[k] for k in kept[max(0, n - GRAM + 1) : n + 1])
        if gram in seen:
            lags[i - seen[gram]] += 1
        else:
            newest = i + 1
            lags.clear()
        seen[gram] = i
    return newest, lags.most_common(1)[0][0] if lags else 0


def find_cycle(tokens: Sequence[int]) -> tuple[int, int]:
    """Return (period, start) of the exact cycle at the end that covers most, (0, n) without one."""
    n, best = len(tokens), (0, len(tokens))
    for period in range(1, n // 2):
        at = n - 1
        while at >= period and tokens[at] == tokens[at - period]:
            at -= 1
        start = at - period + 1
        if n - start >= max(3 * period, STALE) and start < best[1]:
            best = (period, start)
            break
    return best


def label_answer(row: dict[str, Any], digits: Mapping[int, int]) -> Answer:
    """Return the answer with its label and, for a loop, where it begins."""
    tokens = row["tokens"]
    if row["mode"] == READ:
        return Answer(row, "text", row["kind"])
    newest, lag = find_stale(tokens)
    is_counter = False
    collapsed = collapse_numbers(tokens, digits)
    if len(tokens) - newest < STALE:
        newest_collapsed, lag_collapsed = find_stale(collapsed)
        if len(tokens) - newest_collapsed >= STALE:
            newest, lag, is_counter = newest_collapsed, lag_collapsed, True
    stale = len(tokens) - newest
    if stale < DOUBTFUL:
        return Answer(row, "text", row["kind"])
    if row["ended"] == "end" or stale < STALE:
        return Answer(row, "doubtful", row["kind"])
    if row["kind"] == COUNTING and is_counter:
        return Answer(row, "asked", row["kind"])
    period, start = find_cycle(tokens)
    if period:
        kind = next(
            name
            for name, most in (("1-2", 2), ("3-30", 30), ("31-150", 150), ("longer", 10**9))
            if period <= most
        )
        return Answer(row, "loop", f"cycle of {kind}", start)
    onset = max(0, newest - GRAM - lag)
    return Answer(row, "loop", "counter" if is_counter else "noisy", onset)


class Vocabulary:
    """The tokens of a model as the loop detector needs them."""

    def __init__(self, path: Path) -> None:
        self._model = Model(path, ModelOptions(vocab_only=True))
        self.digits: Mapping[int, int] = dict(self._model.digits)
        self._texts: dict[int, bool] = {}

    def is_text(self, token: int) -> bool:
        """Return whether a token holds a letter or a digit."""
        if token not in self._texts:
            piece = self._model.piece(token).decode("utf-8", "ignore")
            self._texts[token] = any(c.isalnum() for c in piece)
        return self._texts[token]

    def count_line_ends(self, token: int) -> int:
        """Return how many line ends a token holds."""
        return self._model.piece(token).count(b"\n")

    def join_pieces(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return b"".join(map(self._model.piece, tokens)).decode("utf-8", "replace")

    def make_detector(self) -> LoopDetector:
        """Return a detector for one answer, as `g4 chat` makes it."""
        return LoopDetector(self.is_text, self.digits, self.count_line_ends)


def find_stop(detector: LoopDetector, row: Mapping[str, Any], *, with_p: bool) -> int:
    """Return the index of the token at which the detector stops an answer, or -1."""
    for place, (token, p) in enumerate(zip(row["tokens"], row["p"], strict=True)):
        if detector.feed(token, p if with_p and detector.wants_probability else None):
            return place
    return -1


def run_rule(rule: Rule, tokens: Sequence[int]) -> int:
    """Return the index of the token at which a rule stops, or -1."""
    return next((place for place, token in enumerate(tokens) if rule.feed(token)), -1)


def describe_rule(answers: Sequence[Answer], stops: Sequence[int]) -> tuple[str, Counter[str]]:
    """Return the cells of a rule's row, and the loops that it missed by kind."""
    loops = [(a, s) for a, s in zip(answers, stops, strict=True) if a.label == "loop"]
    waste = sorted(s - a.onset + 1 for a, s in loops if s >= a.onset)
    early = sum(0 <= s < a.onset for a, s in loops)
    texts = [(a, s) for a, s in zip(answers, stops, strict=True) if a.label == "text"]
    false = sum(s >= 0 for a, s in texts if a.row["mode"] != READ) + early
    read = sum(s >= 0 for a, s in texts if a.row["mode"] == READ)
    others = sum(
        s >= 0 for a, s in zip(answers, stops, strict=True) if a.label in ("asked", "doubtful")
    )
    middle = waste[len(waste) // 2] if waste else 0
    high = waste[int(0.9 * (len(waste) - 1))] if waste else 0
    recall = len(waste) / max(1, len(loops))
    cells = f"{recall:.3f} | {middle} | {high} | {false} | {read} | {others}"
    return cells, Counter(a.kind for a, s in loops if s < a.onset)


def show_answers(answers: Sequence[Answer], wanted: str, vocabulary: Vocabulary) -> None:
    """Print the ends of the answers of a label or a kind of loop."""
    for a in answers:
        if wanted in (a.label, a.kind):
            end = vocabulary.join_pieces(a.row["tokens"][-120:])[-240:]
            told = f"{a.row['temperature']} {a.row['prompt'][:50]!r} {a.row['ended']}"
            print(f"{a.label} {a.kind} from {a.onset}: {told} ...{end!r}")


def describe_answers(answers: Sequence[Answer]) -> str:
    """Return how many answers there are, and how many loops by temperature and by kind."""
    loops = [a for a in answers if a.label == "loop"]
    n_tokens = sum(len(a.row["tokens"]) for a in answers)
    temperatures = sorted(Counter(a.row["temperature"] for a in loops).items())
    return (
        f"{len(answers)} answers, {n_tokens:,} tokens: {dict(Counter(a.label for a in answers))}\n"
        f"loops by temperature: {dict(temperatures)}\n"
        f"loops by kind: {dict(sorted(Counter(a.kind for a in loops).items()))}\n"
    )


def describe_kind(answers: Sequence[Answer], stops: Sequence[int], kind: str) -> str:
    """Return the cell of a rule for a kind of loop: how many it finds, and the median waste."""
    waste = sorted(
        s - a.onset + 1
        for a, s in zip(answers, stops, strict=True)
        if a.label == "loop" and a.kind == kind and s >= a.onset
    )
    return f"{len(waste)}, {waste[len(waste) // 2]}" if waste else "0"


def main() -> None:
    """Print what the answers are, a row for each rule, and a row for each kind of loop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("answers", type=Path, nargs="+")
    parser.add_argument("model", type=Path)
    parser.add_argument("--show", default="", help="print the ends of the answers of this label")
    parser.add_argument("--rules", action="store_true", help="the published rules too")
    args = parser.parse_args()
    vocabulary = Vocabulary(args.model)
    rows = [json.loads(line) for path in args.answers for line in path.open(encoding="utf-8")]
    answers = [label_answer(row, vocabulary.digits) for row in rows]
    if args.show:
        show_answers(answers, args.show, vocabulary)
        return
    print(describe_answers(answers))
    n_read = sum(a.row["mode"] == READ for a in answers)
    columns = f"recall | median waste | p90 | false stops | of {n_read} read | asked, doubtful"
    print(f"| rule | {columns} |\n|---|--:|--:|--:|--:|--:|--:|")
    stops: dict[str, list[int]] = {}
    for name, with_p in (("g4, ids alone", False), ("g4, with probabilities", True)):
        stops[name] = [find_stop(vocabulary.make_detector(), a.row, with_p=with_p) for a in answers]
    for name, make in RULES[1:] if args.rules else ():
        stops[name] = [run_rule(make(), a.row["tokens"]) for a in answers]
    for name, found in stops.items():
        cells, missed = describe_rule(answers, found)
        print(f"| {name} | {cells} |", f"<!-- missed {dict(missed)} -->" if missed else "")
    kinds = Counter(a.kind for a in answers if a.label == "loop")
    print(f"\n| kind | loops | {' | '.join(stops)} |\n|---|--:|{'--:|' * len(stops)}")
    for kind, n in sorted(kinds.items()):
        each = " | ".join(describe_kind(answers, found, kind) for found in stops.values())
        print(f"| {kind} | {n} | {each} |")


if __name__ == "__main__":
    main()

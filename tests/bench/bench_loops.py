"""Compare the loop detector with published rules: recall, false stops, cost.

    python tests/bench/bench_loops.py [--seed 37] [--sources DIR] [--only RULE]

Needs the real vocabulary file in ../shared. Real documents are whatever this machine holds under
/usr and in Python's folders; --sources adds a folder, such as llama.cpp's sources. A stop before
the loop begins counts as a miss. There are two sets: loops of 400 tokens and more with documents of
up to 2,000, and an independent one of loops of 1,000 to 3,000 tokens with documents of up to 4,000
of many more kinds; its 'harder' loops are more than the detector promises. Even seeds, and odd ones
up to 35, were used for tuning.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from loop_corpus import Document, Tokenizer, corpus, more_corpus

from g4cli.loops.detector import LoopDetector
from tests.support.digits import GEMMA4_DIGITS


class Rule(Protocol):
    """A rule: `feed` returns True when the stream must stop."""

    def feed(self, token: int) -> Any: ...


class G4:
    """g4's loop detector."""

    def __init__(self) -> None:
        self._detector = LoopDetector(digits=GEMMA4_DIGITS)

    def feed(self, token: int) -> bool:
        return self._detector.feed(token) is not None


class G4Certain:
    """The same with a probability of 1 for every token: the most that it can stop."""

    def __init__(self, is_text: Sequence[bool], line_ends: Sequence[int]) -> None:
        self._detector = LoopDetector(is_text.__getitem__, GEMMA4_DIGITS, line_ends.__getitem__)

    def feed(self, token: int) -> bool:
        wanted = 1.0 if self._detector.wants_probability else None
        return self._detector.feed(token, wanted) is not None


class Vllm:
    """vLLM's rule (PR 35451): `count` copies of a pattern of `low` to `high` tokens."""

    def __init__(self, high: int, low: int, count: int) -> None:
        self._high, self._low, self._count = high, low, count
        self._tokens: list[int] = []

    def feed(self, token: int) -> bool:
        t = self._tokens
        t.append(token)
        for p in range(self._low, self._high + 1):
            need = p * self._count
            if len(t) < need:
                return False
            if t[-p] == t[-2 * p] and all(
                t[-p:] == t[-(k + 1) * p : -k * p] for k in range(1, self._count)
            ):
                return True
        return False


class SameToken:
    """Ollama's rule: more than `limit` equal tokens in a row."""

    def __init__(self, limit: int) -> None:
        self._limit, self._last, self._run = limit, -1, 0

    def feed(self, token: int) -> bool:
        self._run = self._run + 1 if token == self._last else 1
        self._last = token
        return self._run > self._limit


class FourGrams:
    """hipfire 125: any run of four tokens 8 times among the last 256."""

    def __init__(self) -> None:
        self._tail: deque[int] = deque(maxlen=4)
        self._grams: deque[tuple[int, ...]] = deque()
        self._counts: Counter[tuple[int, ...]] = Counter()

    def feed(self, token: int) -> bool:
        self._tail.append(token)
        gram = tuple(self._tail)
        self._grams.append(gram)
        self._counts[gram] += 1
        if len(self._grams) > 256:
            self._counts[self._grams.popleft()] -= 1
        return len(gram) == 4 and self._counts[gram] >= 8


class Zlib:
    """Whisper's rule on ids: the last `width` tokens shrink by more than `ratio`."""

    def __init__(self, ratio: float, width: int) -> None:
        self._ratio, self._width, self._data = ratio, width, bytearray()

    def feed(self, token: int) -> bool:
        self._data += token.to_bytes(3, "little")
        n = len(self._data) // 3
        if n < self._width or n % 16:
            return False
        window = bytes(self._data[-3 * self._width :])
        return len(window) / len(zlib.compress(window)) > self._ratio


class Distinct4:
    """Share of different runs of four in the last `width` tokens below `share`."""

    def __init__(self, share: float, width: int) -> None:
        self._share, self._width, self._tokens = share, width, list[int]()

    def feed(self, token: int) -> bool:
        t = self._tokens
        t.append(token)
        if len(t) < self._width or len(t) % 16:
            return False
        window = t[-self._width :]
        return (
            len(set(zip(window, window[1:], window[2:], window[3:], strict=False)))
            < self._share * self._width
        )


RULES: tuple[tuple[str, Callable[[], Rule]], ...] = (
    ("g4", G4),
    ("vLLM 20/1/3", lambda: Vllm(20, 1, 3)),
    ("vLLM 8/1/4", lambda: Vllm(8, 1, 4)),
    ("vLLM 128/4/4", lambda: Vllm(128, 4, 4)),
    ("Ollama > 30", lambda: SameToken(30)),
    ("hipfire 4-grams", FourGrams),
    ("zlib > 4, 256", lambda: Zlib(4, 256)),
    ("distinct-4 < .2, 256", lambda: Distinct4(0.2, 256)),
)


def stop_at(rule: Rule, tokens: list[int]) -> int:
    """Return the index of the token at which the rule stops, or -1."""
    for place, token in enumerate(tokens):
        if rule.feed(token):
            return place
    return -1


def measure_rule(make: Callable[[], Rule], documents: dict[str, list[Document]]) -> dict[str, Any]:
    """Return the figures of one rule on one set."""
    false = {
        part: [d.kind for d in documents[part] if stop_at(make(), d.tokens) >= 0]
        for part in ("real", "hard")
    }
    found: Counter[str] = Counter()
    total: Counter[str] = Counter()
    latest, harder = 0, 0
    for d in documents["loops"]:
        kind = "exact" if d.kind.startswith("exact") and "dashes" not in d.kind else d.kind
        place = stop_at(make(), d.tokens)
        total[kind] += 1
        if place >= d.onset:
            found[kind] += 1
            latest = max(latest, place - d.onset + 1) if "dashes" in kind else latest
    for d in documents.get("harder", []):
        harder += stop_at(make(), d.tokens) >= d.onset
    sample = documents["real"][::5]
    best = min(_cost(make, sample) for _ in range(3))
    dashes = next(k for k in total if "dashes" in k)
    exact = ("exact", dashes)
    return {
        "exact": sum(found[k] for k in exact) / sum(total[k] for k in exact),
        "all": sum(found.values()) / sum(total.values()),
        "harder": harder / max(1, len(documents.get("harder", []))),
        "real": len(false["real"]),
        "hard": len(false["hard"]),
        "us": best,
        "dashes": f"{found[dashes]}/{total[dashes]}",
        "dashes_latest": latest,
        "missed": {k: f"{found[k]}/{total[k]}" for k in total if found[k] < total[k]},
        "false": Counter(false["real"] + false["hard"]),
    }


def _cost(make: Callable[[], Rule], documents: list[Document]) -> float:
    started, n = time.process_time(), 0
    for d in documents:
        feed = make().feed
        for token in d.tokens:
            feed(token)
        n += len(d.tokens)
    return (time.process_time() - started) / n * 1e6


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=37)
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    pieces = Tokenizer().pieces()
    is_text = [any(map(str.isalnum, piece)) for piece in pieces]
    line_ends = [piece.count("\n") for piece in pieces]
    rules = list(RULES)
    rules.insert(1, ("g4, all certain", lambda: G4Certain(is_text, line_ends)))
    for documents in (corpus(args.seed, args.sources), more_corpus(args.seed, args.sources)):
        n = {part: len(ds) for part, ds in documents.items()}
        tokens = sum(len(d.tokens) for ds in documents.values() for d in ds)
        print(f"seed {args.seed}: {n}, {tokens:,} tokens\n")
        has_harder = "harder" in n
        columns = ["recall exact", "recall all", *["harder"] * has_harder, f"real /{n['real']}"]
        columns += [f"hard /{n['hard']}", "us/token", "`---`"]
        print(f"| rule | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
        for name, make in rules:
            if args.only and args.only not in name:
                continue
            m = measure_rule(make, documents)
            cells = [f"{m['exact']:.3f}", f"{m['all']:.3f}", *[f"{m['harder']:.3f}"] * has_harder]
            cells += [str(m["real"]), str(m["hard"]), f"{m['us']:.2f}", m["dashes"]]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
            if name.startswith("g4"):
                print(
                    f"<!-- missed {m['missed']}; latest dashes {m['dashes_latest']}; false "
                    f"{m['false']} -->"
                )
        print()


if __name__ == "__main__":
    main()

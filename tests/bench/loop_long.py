"""Long loops of many kinds after 0 to 800 tokens of real text, some harder than promised.

A kind is a function of a random generator and the real documents that returns token ids.
"""
# ruff: noqa: ARG001, ARG005 (every kind takes the same arguments)

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterator

from loop_text import NAMES, WORDS, sentence, words

Encode = Callable[[str], list[int]]
Real = list[list[int]]
Make = Callable[[random.Random, Real, Encode], list[int]]
PHRASES = (
    "---\n", "***\n", "I don't know. ", "the the ", "\n\n", " ", "  \n", ".", "...", "ha",
    "No. No. ", "🙂",
    "的", "<div>", "</td><td>", "|  |  |\n", "0, ", "a", "- \n", "```python\n```\n", "{}", "&nbsp;",
    "null, ",
    "Wait, let me think again. ", "So the answer is 42. ", "\t\n", "}\n", "|---|---|\n", "x^2 + ",
    "안녕 ",
    "Okay.\n", "1 2 3 ",
)  # fmt: skip
COUNTERS: dict[str, Callable[[int, str], str]] = {
    "step": lambda i, p: f"Step {i}: repeat\n",
    "list": lambda i, p: f"{i}. {p}\n",
    "down": lambda i, p: f"- {p} ({90_000 - i})\n",
    "padded": lambda i, p: f"{i:05d}: {p}\n",
    "two": lambda i, p: f"{p} {i} of {i + 1}.\n",
    "sum": lambda i, p: f"{i} + 1 = {i + 1}\n",
    "date": lambda i, p: f"{datetime.date(1950, 1, 1) + datetime.timedelta(days=i)}: {p}\n",
    "clock": lambda i, p: f"[{i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d}] {p}\n",
    "letters": lambda i, p: f"{'abcdefghijklmnopqrstuvwxyz'[i % 26]}) {p}\n",
    "three lines": lambda i, p: f"{i}. {p} {('first', 'and then', 'so again')[i % 3]}\n",
    "case": lambda i, p: f"    case {i}: return value[{i}];\n",
    "rows": lambda i, p: f'  {{"id": {i}, "name": "{p}"}},\n',
    "years": lambda i, p: f"In {1500 + i} the {p}. ",
}
HARD_COUNTERS: dict[str, Callable[[int, str], str]] = {
    "hex": lambda i, p: f"0x{i:04x}: {p}\n",
    "decimal": lambda i, p: f"{i / 10:.1f} {p}\n",
    "outline": lambda i, p: f"{1 + i // 5}.{1 + i % 5} {p}\n",
    "doubling": lambda i, p: f"{2 ** (i % 300)} {p}\n",
    "chance": lambda i, p: f"{p} {random.Random(i).randrange(1000)}\n",
    "words": lambda i, p: f"Step {WORDS[i % 97]}: {p}\n",
}


def span(r: random.Random, real: Real, n: int) -> list[int]:
    """Return n tokens of a real document."""
    source = r.choice([t for t in real if len(t) > n])
    at = r.randrange(len(source) - n)
    return source[at : at + n]


def fill(unit: list[int], n: int) -> list[int]:
    return (unit * (n // len(unit) + 1))[:n]


def length(r: random.Random) -> int:
    return r.randint(1000, 3000)


def written(r: random.Random, encode: Encode, more: Callable[[], str]) -> list[int]:
    """Return the tokens of text that is written piece by piece."""
    n, text = length(r), ""
    while len(text) < 8 * n and len(encode(text)) < n:
        text += "".join(more() for _ in range(100))
    return encode(text)[:n]


def cycle(low: int, high: int) -> Make:
    def make(r: random.Random, real: Real, encode: Encode) -> list[int]:
        period = round(low * (high / low) ** r.random())
        return fill(span(r, real, period), max(length(r), 4 * period + period // 3))

    return make


def few_kinds(r: random.Random, real: Real, encode: Encode) -> list[int]:
    period, kinds = r.randint(5, 2048), span(r, real, r.randint(3, 10))
    return fill([r.choice(kinds) for _ in range(period)], max(1000, 4 * period + period // 3))


def phrase(r: random.Random, real: Real, encode: Encode) -> list[int]:
    unit = r.choice(PHRASES)
    return fill(encode(unit * 64)[:1] if unit.isspace() else encode(unit), length(r))


def block(r: random.Random, real: Real, encode: Encode) -> list[int]:
    """Return a cycle whose unit repeats itself inside: a table, a list, a song, a function."""
    n = r.randint(3, 25)
    row = "|" + "|".join(r.choice(["  ", " 0 ", " - "]) for _ in range(r.randint(2, 8))) + "|\n"
    refrain = sentence(r) + "\n"
    unit = r.choice(
        [
            f"| {words(r)} | {words(r)} |\n|---|---|\n" + row * n,
            "".join(f"- {r.choice(WORDS[:4])}\n" for _ in range(n)) + "\n",
            "".join(sentence(r) + "\n" + refrain for _ in range(r.randint(2, 6))),
            f"def {words(r)}(x):\n"
            + "".join(f"    {words(r)} = x + {words(r)}\n" for _ in range(n))
            + "\n",
            "".join(f'<rect x="{10 * i}" width="10"/>\n' for i in range(n)) + "</g>\n",
            sentence(r) + "\n" + "-" * r.randint(3, 70) + "\n",
            f"{r.choice(NAMES)}: {sentence(r)}\n{r.choice(NAMES)}: {sentence(r)}\n",
        ]
    )
    tokens = encode(unit)
    return fill(tokens, max(length(r), 9 * len(tokens) // 2))


def noise(how: str, rate: float, low: int = 3, high: int = 150) -> Make:
    """Return a cycle in which tokens are swapped (for any, for one of the unit), added, dropped,
    doubled.
    """

    def make(r: random.Random, real: Real, encode: Encode) -> list[int]:
        period = round(low * (high / low) ** r.random())
        unit, out = span(r, real, period), list[int]()
        for token in fill(unit, max(length(r), 8 * period)):
            act = "keep"
            if r.random() < rate:
                act = r.choice(["swap", "near", "add", "drop", "double"]) if how == "any" else how
            stray = span(r, real, 1)[0] if act != "near" else r.choice(unit)
            out += {
                "keep": [token],
                "swap": [stray],
                "near": [stray],
                "add": [token, stray],
                "drop": [],
                "double": [token, token],
            }[act]
        return out

    return make


def written_noise(how: str) -> Make:
    """Return a repeated sentence with capitals, commas, spaces or words that change."""

    def make(r: random.Random, real: Real, encode: Encode) -> list[int]:
        unit = [r.choice(WORDS) for _ in range(r.randint(5, 40))]

        def more() -> str:
            said = list(unit)
            for i, word in enumerate(said):
                if how == "case" and r.random() < 0.05:
                    said[i] = word.upper()
                if how == "commas" and r.random() < 0.06:
                    said[i] = word + r.choice(",;:")
                if how == "words" and r.random() < 0.03:
                    said[i] = r.choice(WORDS)
            return " ".join(said) + (r.choice([". ", ".\n", ". ", "! "]) if how == "ends" else ". ")

        return written(r, encode, more)

    return make


def counter(line: Callable[[int, str], str]) -> Make:
    def make(r: random.Random, real: Real, encode: Encode) -> list[int]:
        first, step, p = r.choice([1, 1, 1, 17, 98, 990]), r.choice([1, 1, 1, 2]), words(r, 1, 8)
        return encode("".join(line(first + step * i, p) for i in range(1200)))[: length(r)]

    return make


def babble(kinds: int) -> Make:
    def make(r: random.Random, real: Real, encode: Encode) -> list[int]:
        n = length(r)
        if r.random() < 0.5:
            some = span(r, real, kinds)
            return [r.choice(some) for _ in range(n)]
        said, after = r.sample(WORDS, kinds), r.choice([" ", ", ", "\n"])
        return encode(after.join(r.choice(said) for _ in range(n)) + after)[:n]

    return make


def phrases(kinds: int, low: int, high: int) -> Make:
    def make(r: random.Random, real: Real, encode: Encode) -> list[int]:
        some = [words(r, low, high) + r.choice([". ", ", ", "\n"]) for _ in range(kinds)]
        return written(r, encode, lambda: r.choice(some))

    return make


def growing(r: random.Random, real: Real, encode: Encode) -> list[int]:
    word, turn = r.choice(WORDS), r.choice(["{0}\n", "The {0}. ", "({0})\n"])
    return encode("".join(turn.format(" ".join([word] * i)) for i in range(1, 90)))[: length(r)]


ASKED: dict[str, Make] = {
    **{f"exact {low}-{high}": cycle(low, high) for low, high in (
        (1, 2), (3, 11), (12, 63), (64, 255), (256, 700), (701, 1400), (1401, 2048))},
    "exact few kinds": few_kinds, "exact phrase": phrase, "exact block": block,
    "exact dashes": lambda r, real, encode: fill(encode("---\n"), length(r)),
    **{f"noise {how} {rate:.0%}": noise(how, rate)
       for how in ("swap", "near", "add", "drop", "double", "any") for rate in (0.01, 0.02, 0.03)},
    **{f"counter {name}": counter(line) for name, line in COUNTERS.items()},
    **{f"babble {kinds}": babble(kinds) for kinds in (2, 3, 4)},
}  # fmt: skip
HARDER: dict[str, Make] = {
    **{f"noise {how} {rate:.0%}": noise(how, rate) for how in ("swap", "any") for rate in (0.05,
            0.1)},
    "noise long 2%": noise("any", 0.02, 150, 500),
    **{f"written {how}": written_noise(how) for how in ("case", "commas", "words", "ends")},
    **{f"counter {name}": counter(line) for name, line in HARD_COUNTERS.items()},
    **{f"babble {kinds}": babble(kinds) for kinds in (5, 8, 12)},
    **{f"phrases {kinds}": phrases(kinds, 2, 6) for kinds in (2, 3, 4, 8)},
    "sentences 3": phrases(3, 6, 14), "sentences 6": phrases(6, 6, 14),
    "growing": growing,
}  # fmt: skip


def long_loops(
    encode: Encode, real: Real, seed: int, per_kind: int
) -> Iterator[tuple[str, str, list[int], int]]:
    """Yield (set, kind, tokens, onset), the set 'asked' or 'harder'."""
    for part, kinds in (("asked", ASKED), ("harder", HARDER)):
        for kind, make in kinds.items():
            for number in range(per_kind):
                r = random.Random(f"{seed}/{part}/{kind}/{number}")
                before = span(r, real, r.randint(20, 800)) if r.random() < 0.8 else []
                if r.random() < 0.1:  # deep into an answer
                    before = [
                        t for _ in range(5) for t in span(r, real, r.randint(300, 1000))
                    ] + before
                yield part, kind, before + make(r, real, encode), len(before)

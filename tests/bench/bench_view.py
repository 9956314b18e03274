"""Measure the cost of formatting an answer (prose, code, tables, lists) compared with plain text.

    python tests/bench/bench_view.py [--tokens 2000] [--rate 100]

Tokens of four characters arrive at --rate per second of a simulated clock, which also counts the
processor time of formatting, so that redraws are as frequent as in a real chat. Prints one JSON
document: the share of a core that formatting takes, and its ratio to the time of plain text.
"""

from __future__ import annotations

import argparse
import io
import json
import time

from rich.console import Console

from g4cli.cli.output import Output
from g4cli.cli.views.chat import MarkdownView
from g4cli.prompt.reply import AnswerText

KINDS = {
    "prose": ("", "The quick brown fox **jumps** over the lazy `dog` and runs away.\n" * 6 + "\n"),
    "code": ("```python\n", '    value_{n} = compute(first, "second", {n})  # a comment\n'),
    "table": ("| name | value |\n|--|--:|\n", "| row {n} of the table | **{n}** |\n"),
    "list": (
        "",
        "- item {n} with *some* text behind it, so that it is wrapped at the margin once\n",
    ),
    "one paragraph": ("", "and it goes on and on for a while without a single blank line {n}\n"),
}


def make_answer(kind: str, n_chars: int) -> str:
    """Return an answer of one kind with `n_chars` characters."""
    begin, unit = KINDS[kind]
    parts, length, number = [begin], len(begin), 0
    while length < n_chars:
        part = unit.replace("{n}", str(number))
        parts.append(part)
        length, number = length + len(part), number + 1
    return "".join(parts)


def measure_share(text: str, rate: float) -> float:
    """Return the processor time of formatting, divided by the time in which the answer arrives."""
    out = Output()
    console = Console(
        file=io.StringIO(), width=100, height=40, force_terminal=True, color_system="256"
    )
    out.console = lambda **_: console  # type: ignore[method-assign]
    arrived = 0.0

    def clock() -> float:
        return arrived + time.process_time()

    tokens = [text[i : i + 4] for i in range(0, len(text), 4)]
    started = time.process_time()
    with MarkdownView(out, "hide", clock) as view:
        for index, token in enumerate(tokens):
            arrived = index / rate
            view.show(AnswerText(token))
    return (time.process_time() - started) / (len(tokens) / rate)


def measure_plain_text(text: str) -> float:
    """Return the processor time of writing the same tokens as plain text."""
    stream = io.StringIO()
    started = time.process_time()
    for i in range(0, len(text), 4):
        stream.write(text[i : i + 4])
        stream.flush()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=100)
    args = parser.parse_args()
    measure_share(make_answer("code", 400), args.rate)  # imports
    rows = {}
    for kind in KINDS:
        text = make_answer(kind, 4 * args.tokens)
        share = measure_share(text, args.rate)
        seconds = share * args.tokens / args.rate
        rows[kind] = {
            "share of a core": round(share, 4),
            "us per token": round(1e6 * seconds / args.tokens, 1),
            "times plain": round(seconds / max(1e-6, measure_plain_text(text)), 1),
        }
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

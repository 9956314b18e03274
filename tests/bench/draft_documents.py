"""Compute the relative speed of prompt lookup on real documents, from the number of batches.

    python tests/bench/draft_documents.py VOCABULARY.gguf [--price 1.7] GLOB ...

The first 300 tokens of each document of 1,300 tokens are the prompt, the rest is the answer. No
network runs, since drafts depend on tokens alone. A batch costs as much as `--price` single tokens
(bench_draft.py measures it). Prints the relative speed of the worst document, the tenth percentile,
the median and the best.
"""

from __future__ import annotations

import argparse
import glob
import random
import statistics
from pathlib import Path
from typing import Any

from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ModelOptions
from g4cli.runtime.engine.speculation import LookupDrafter, Speculation

N_PROMPT, N_TOKENS = 300, 1300
MOST = 60


class Counting:
    """A context that only counts the batches that it would evaluate."""

    n_ctx = 1 << 20

    def __init__(self) -> None:
        self.n_single = self.n_rounds = 0

    def decode_with_logits(self, tokens: list[int], _seq: int) -> bool:
        if len(tokens) == 1:
            self.n_single += 1
        else:
            self.n_rounds += 1
        return True

    def truncate(self, _n_past: int, _seq: int) -> None: ...
    def advance_row(self) -> None: ...


def speed_up(tokens: list[int], price: float) -> float:
    """Return the speed of decoding with drafts, relative to plain decoding."""
    context: Any = Counting()
    speculation = Speculation(context, LookupDrafter(), "not asked for")
    speculation.set_prompt(tokens[:N_PROMPT], restored=False)
    for position in range(N_PROMPT, len(tokens)):
        speculation.advance(tokens[position], position)
    return (len(tokens) - N_PROMPT) / (context.n_single + price * context.n_rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("vocabulary", type=Path)
    parser.add_argument("globs", nargs="+")
    parser.add_argument("--price", type=float, default=1.7)
    args = parser.parse_args()
    model = Model(args.vocabulary, ModelOptions(vocab_only=True))
    for pattern in args.globs:
        files = sorted(
            path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file()
        )
        random.Random(0).shuffle(files)
        found: list[float] = []
        for path in files:
            tokens = model.tokenize(
                path.read_text(encoding="utf-8", errors="replace")[:9000], control=False
            )
            if len(tokens) >= N_TOKENS and len(found) < MOST:
                found.append(speed_up(tokens[:N_TOKENS], args.price))
        if not found:
            print(f"{pattern}: no document of {N_TOKENS} tokens")
            continue
        found.sort()
        print(
            f"{pattern}: {len(found)} documents, worst {found[0]:.3f}, tenth "
            f"{found[len(found) // 10]:.3f}, "
            f"median {statistics.median(found):.3f}, best {found[-1]:.3f}"
        )
    model.close()


if __name__ == "__main__":
    main()

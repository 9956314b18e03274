"""Count the greedy answers that drafting changes, to tiny's corpus and in long answers.

    python tests/bench/draft_equality.py [FILE ...] [--threads 1 2] [--long 1500]

Without FILE: the bundled network as BF16, Q8_0, Q4_0, and with every matrix as Q8_0. Each answer is
decoded one by one and with drafts, of which 7 of 10 are right. Prints how many answers differ,
with the rule of `--draft auto` (logits must be identical) and without it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))

from g4cli.cli.main import run  # noqa: E402
from g4cli.core.gguf import read_header  # noqa: E402
from g4cli.runtime.engine.drafting import N_OUTPUTS, Exactness, find_float_matrices  # noqa: E402
from g4cli.runtime.engine.llama_engine import LlamaEngine, open_engine  # noqa: E402
from g4cli.runtime.engine.options import ContextOptions, ModelOptions  # noqa: E402
from tests.integration.runtime.test_speculation import (  # noqa: E402
    GREEDY,
    QUESTIONS,
    Oracle,
    asked,
)
from tests.support.builders.tiny_file import build_tiny, build_tiny_q8  # noqa: E402

MOST = 160


def generate_answer(engine: LlamaEngine, prompt: list[int], most: int, *, ends: bool) -> list[int]:
    """Return the greedy answer of at most `most` tokens; without `ends` it continues after EOT."""
    engine.begin(GREEDY)
    engine.evaluate(prompt)
    tokens: list[int] = []
    while len(tokens) < most and engine.n_past < engine.n_ctx:
        token = engine.sample()
        tokens.append(token)
        if ends and engine.model.is_end(token):
            break
        engine.advance(token)
    return tokens


def compare_answers(file: Path, n_threads: int, long: int, *, rule: bool) -> dict[str, object]:
    """Return the number of answers that differ, of tokens, and of accepted tokens."""
    options = ContextOptions(2048, n_threads=n_threads, n_outputs=N_OUTPUTS)
    exact: Exactness = "impossible" if find_float_matrices(read_header(file)) else "by comparison"
    n_different = n_tokens = n_kept = 0
    cases = [(q, MOST, True) for q in QUESTIONS] + [(q, long, False) for q in QUESTIONS[::80]]
    with (
        open_engine(file, model_options=ModelOptions(), context_options=options) as plain,
        open_engine(file, model_options=ModelOptions(), context_options=options) as drafting,
    ):
        truth: list[int] = []
        drafting.attach_drafter(lambda _: Oracle(truth, 0.7), exact if rule else "not asked for")
        for question, most, ends in cases:
            prompt = asked(plain, question)
            expected = generate_answer(plain, prompt, most, ends=ends)
            truth[:] = [*prompt, *expected]
            found = generate_answer(drafting, prompt, most, ends=ends)
            n_different += found != expected
            n_tokens += len(expected)
            n_kept += drafting.drafted.n_accepted if drafting.drafted else 0
    return {
        "answers": len(cases),
        "tokens": n_tokens,
        "drafts accepted": n_kept,
        "different": n_different,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--long", type=int, default=1500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not args.files:
            first = Path(folder) / "tiny-bf16.gguf"
            first.write_bytes(build_tiny())
            whole = first.with_name("tiny-all-q8_0.gguf")
            whole.write_bytes(build_tiny_q8())
            args.files = [whole, first]
            for kind in ("q8_0", "q4_0"):
                args.files.append(first.with_name(f"tiny-{kind}.gguf"))
                assert run(["quantize", str(first), str(args.files[-1]), "--type", kind, "-q"]) == 0
        for file in args.files:
            for n_threads in args.threads:
                for rule in (True, False):
                    row = compare_answers(file, n_threads, args.long, rule=rule)
                    print(
                        json.dumps({"file": file.name, "threads": n_threads, "rule": rule, **row}),
                        flush=True,
                    )


if __name__ == "__main__":
    main()

"""Speed in llama-bench's terms: pp512 is a prompt of 512 random tokens, tg128 are 128 tokens one by one.

As tools/llama-bench/llama-bench.cpp test_prompt and test_gen (llama.cpp@0c1e57098): the memory is cleared
before each repetition, one repetition before them warms up, nothing is sampled. "tg128 @ d4096" runs behind
4,096 tokens, which are evaluated once, untimed, and put back before each repetition.
"""

from __future__ import annotations

import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from g4cli.core.errors import Interrupted
from g4cli.core.progress import Progress, no_progress
from g4cli.core.units import parse_count
from g4cli.runtime.engine.context import Context, ContextOptions
from g4cli.runtime.engine.model import Model, ModelOptions
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.runtime.llama.library import llama


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to run. `n_prompt` or `n_gen` 0 leaves that test out; each runs once behind each of `n_depths`."""

    n_prompt: int = 512
    n_gen: int = 128
    n_depths: tuple[int, ...] = (0,)
    repetitions: int = 5
    n_threads: int = 0
    kv_type: str = "f16"
    warmup: bool = True


@dataclass(frozen=True, slots=True)
class Measured:
    """One test: tokens per second of each repetition, behind `n_depth` tokens."""

    name: str
    n_tokens: int
    samples: tuple[float, ...]
    n_depth: int = 0

    @property
    def mean(self) -> float:
        """Return the mean tokens per second."""
        return statistics.fmean(self.samples)

    @property
    def stddev(self) -> float:
        """Return the sample standard deviation, 0 for one repetition."""
        return statistics.stdev(self.samples) if len(self.samples) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All figures. `peak_bytes` is the most memory that this process ever held resident."""

    description: str
    size_bytes: int
    n_params: int
    n_threads: int
    load_s: float
    tests: tuple[Measured, ...]
    peak_bytes: int


def parse_depths(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as '0,4k'. Raises UsageError."""
    return tuple(parse_count(item) for item in text.split(","))


def run_bench(
    path: Path,
    model_options: ModelOptions,
    options: BenchOptions,
    *,
    progress: Progress = no_progress,
) -> BenchReport:
    """Load the model, run the tests and return the figures. Raises RuntimeFailed, NoMemory or Interrupted."""
    interrupt = Interrupt()
    with interrupt.listening():
        started = time.perf_counter()
        model = Model(path, model_options, stop=lambda: interrupt.is_set)
        n_ctx = max(options.n_prompt, options.n_gen, 1) + max(options.n_depths)
        context = Context(
            model,
            ContextOptions(n_ctx, kv_type=options.kv_type, n_threads=options.n_threads),
            interrupt,
        )
        load_s = time.perf_counter() - started
        tests = _measure(context, options, progress)
        report = BenchReport(
            model.description,
            model.size_bytes,
            model.n_params,
            context.n_threads,
            load_s,
            tests,
            peak_memory_bytes(),
        )
        context.close()
        model.close()
    return report


def _measure(context: Context, options: BenchOptions, progress: Progress) -> tuple[Measured, ...]:
    """Return every test behind every depth."""
    kinds: list[tuple[str, int, Callable[[Context, int], bool]]] = [
        ("pp", options.n_prompt, _prompt),
        ("tg", options.n_gen, _generate),
    ]
    runs = options.repetitions + options.warmup
    total = sum(n > 0 for _, n, _ in kinds) * len(options.n_depths) * runs
    done, tests = 0, []
    for n_depth in options.n_depths:
        if n_depth:
            progress(done, total, f"fill {n_depth:,} tokens")
        state = _filled(context, n_depth)
        for kind, n_tokens, run in kinds:
            if not n_tokens:
                continue
            name = f"{kind}{n_tokens}" + (f" @ d{n_depth}" if n_depth else "")
            samples = []
            for repetition in range(runs):
                seconds = _timed(context, state, partial(run, context, n_tokens))
                done += 1
                progress(done, total, name)
                if repetition or not options.warmup:  # the first warms caches and threads up
                    samples.append(n_tokens / seconds)
            tests.append(Measured(name, n_tokens, tuple(samples), n_depth))
    return tuple(tests)


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def _filled(context: Context, n_tokens: int) -> bytes | None:
    """Evaluate `n_tokens` random tokens and return the memory's state behind them, or None for none."""
    if not n_tokens:
        return None
    context.keep(0)
    if not _prompt(context, n_tokens):
        raise Interrupted("")
    return context.state()


def _timed(context: Context, state: bytes | None, run: Callable[[], bool]) -> float:
    """Return the seconds that `run` takes behind `state`."""
    context.keep(0)
    if state is not None:
        context.restore(state)
    started = time.perf_counter()
    if not run():
        raise Interrupted("")
    llama().llama_synchronize(context.handle)
    return time.perf_counter() - started


def _prompt(context: Context, n_tokens: int) -> bool:
    tokens = _random_tokens(context, n_tokens)
    return all(
        context.decode(tokens[start : start + context.n_batch])
        for start in range(0, n_tokens, context.n_batch)
    )


def _generate(context: Context, n_tokens: int) -> bool:
    for token in _random_tokens(context, n_tokens):
        if not context.decode_one(token):
            return False
        llama().llama_synchronize(context.handle)
    return True


def _random_tokens(context: Context, count: int) -> list[int]:
    tokens = [random.randrange(context.model.n_vocab) for _ in range(count)]
    if context.model.bos >= 0:
        tokens[0] = context.model.bos
    return tokens

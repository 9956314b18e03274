"""Speed as llama-bench measures it: pp512 processes 512 tokens at once, tg128 decodes 128 singly.

As test_prompt and test_gen in tools/llama-bench/llama-bench.cpp (llama.cpp@0c1e57098): tokens are
random, the KV cache is cleared before each repetition, an untimed repetition warms up, nothing is
sampled. "tg128 @ d4096" decodes after 4,096 tokens, which are evaluated once, untimed; their state
is restored before each repetition.

What is measured is what a chat gets: the process has its large pages (engine/process.py). The same
for llama-bench: GLIBC_TUNABLES=glibc.malloc.hugetlb=1 llama-bench.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Callable
from functools import partial

from g4cli.core.progress import Progress, no_progress
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions
from g4cli.runtime.engine.state_copy import put_state, take_state
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.runtime.llama.library import engine_failure
from g4cli.runtime.measure.messages import RunBench
from g4cli.runtime.measure.reports import (
    BenchOptions,
    BenchReport,
    SpeedResult,
    TellOpening,
    ignore_opening,
)


def run_bench(
    request: RunBench,
    *,
    progress: Progress = no_progress,
    opening: TellOpening = ignore_opening,
) -> BenchReport:
    """Return the speed of the model in the tests that `request` names.

    `opening` is told which file is loaded. Raises RuntimeFailed or NoMemory if llama.cpp cannot
    load it.
    """
    options = request.options
    opening(request.path)
    started = time.perf_counter()
    model = Model(request.path, request.model)
    context = Context(
        model,
        ContextOptions(options.n_ctx, kv_type=options.kv_type, n_threads=options.n_threads),
        Interrupt(),  # never set, so that decoding always ends: Ctrl-C ends this process
    )
    load_s = time.perf_counter() - started
    opening(None)
    tests = _run_tests(context, options, progress)
    report = BenchReport(
        model.description,
        model.size_bytes,
        model.n_params,
        context.n_threads,
        load_s,
        tests,
        read_peak_memory(),
    )
    context.close()
    model.close()
    return report


def _run_tests(
    context: Context, options: BenchOptions, progress: Progress
) -> tuple[SpeedResult, ...]:
    """Return the result of every test at every depth."""
    kinds: list[tuple[str, int, Callable[[Context, int], None]]] = [
        ("pp", options.n_prompt, _decode_prompt),
        ("tg", options.n_gen, _decode_singly),
    ]
    runs = options.repetitions + options.warmup
    total = sum(n > 0 for _, n, _ in kinds) * len(options.n_depths) * runs
    done, tests = 0, []
    for n_depth in options.n_depths:
        if n_depth:
            progress(done, total, f"fill {n_depth:,} tokens")
        state = _fill_context(context, n_depth)
        for kind, n_tokens, run in kinds:
            if not n_tokens:
                continue
            name = f"{kind}{n_tokens}" + (f" @ d{n_depth}" if n_depth else "")
            samples = []
            for repetition in range(runs):
                seconds = _time_run(context, state, partial(run, context, n_tokens))
                done += 1
                progress(done, total, name)
                if repetition or not options.warmup:  # the first fills caches and starts threads
                    samples.append(n_tokens / seconds)
            tests.append(SpeedResult(name, n_tokens, tuple(samples), n_depth))
    return tuple(tests)


def read_peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def _fill_context(context: Context, n_tokens: int) -> memoryview | None:
    """Return the context's state after `n_tokens` random tokens, or None for no tokens."""
    if not n_tokens:
        return None
    context.truncate(0)
    _decode_prompt(context, n_tokens)
    if (state := take_state(context)) is None:
        raise engine_failure("llama.cpp cannot copy the state of the context")
    return state


def _time_run(context: Context, state: memoryview | None, run: Callable[[], None]) -> float:
    """Return the seconds that `run` takes after `state` is restored (None: in an empty context)."""
    context.truncate(0)
    if state is not None and not put_state(context, state):
        raise engine_failure("llama.cpp refuses to restore its own state")
    started = time.perf_counter()
    run()
    context.synchronize()
    return time.perf_counter() - started


def _decode_prompt(context: Context, n_tokens: int) -> None:
    tokens = _random_tokens(context, n_tokens)
    for start in range(0, n_tokens, context.n_batch):
        context.decode_tokens(tokens[start : start + context.n_batch])


def _decode_singly(context: Context, n_tokens: int) -> None:
    for token in _random_tokens(context, n_tokens):
        context.decode_with_logits([token])
        context.synchronize()


def _random_tokens(context: Context, count: int) -> list[int]:
    """Return `count` tokens, the first of them BOS if the model has one, as llama-bench does."""
    tokens = [random.randrange(context.model.n_vocab) for _ in range(count)]
    if context.model.bos >= 0:
        tokens[0] = context.model.bos
    return tokens

"""Options and results of `g4 bench`, `eval` and `imatrix`: plain values, without llama.cpp."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from g4cli.core.errors import UsageError
from g4cli.core.shape import CONTEXT_LIMIT
from g4cli.core.units import parse_count
from g4cli.quant.scores import Score

if TYPE_CHECKING:
    from g4cli.quant.activation_sums import ActivationSums

TellOpening: TypeAlias = Callable[[Path | None], None]
"""Called with a file that is being loaded, and with None when all are loaded."""


def ignore_opening(path: Path | None) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to run: prompt processing and generation, each at every depth of `n_depths`.

    `n_prompt` or `n_gen` 0 leaves that test out. `n_threads` 0: one for each physical core, or one
    for a very small model (`choose_n_threads` in runtime.engine.context). With `warmup` one more
    repetition comes first, which is not counted.
    """

    n_prompt: int = 512
    n_gen: int = 128
    n_depths: tuple[int, ...] = (0,)
    repetitions: int = 5
    n_threads: int = 0
    kv_type: str = "f16"
    warmup: bool = True

    @property
    def n_ctx(self) -> int:
        """The context that the longest test needs, in tokens."""
        return max(self.n_prompt, self.n_gen, 1) + max(self.n_depths)


@dataclass(frozen=True, slots=True)
class SpeedResult:
    """One test: tokens per second of each repetition, after `n_depth` tokens of context."""

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
    """All figures. `peak_bytes` is the largest resident size of the process that measured."""

    description: str
    weights_bytes: int
    n_params: int
    n_threads: int
    load_s: float
    tests: tuple[SpeedResult, ...]
    peak_bytes: int

    def find_decode_speed(self) -> float | None:
        """Return the tokens per second of decoding in an empty context, if that was measured."""
        speeds = (t.mean for t in self.tests if t.name.startswith("tg") and not t.n_depth)
        return next(speeds, None)


def check_bench_options(options: BenchOptions) -> None:
    """Raise UsageError if there is nothing to measure, or too much for any context."""
    if not options.n_prompt and not options.n_gen:
        raise UsageError("--n-prompt and --n-gen are both 0: nothing to measure", hint="-p 512")
    if options.n_ctx > CONTEXT_LIMIT:
        raise UsageError(
            f"a test of {options.n_ctx:,} tokens, its depth included; at most {CONTEXT_LIMIT:,}",
            hint="-p 512 -n 128 -d 0,4096",
        )


def parse_depths(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as '0,4k'. Raises UsageError."""
    return tuple(parse_count(item) for item in text.split(","))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of `g4 eval` over all conversations ("documents").

    `n_exact` of them have an answer that greedy decoding would have given exactly: every token was
    the model's first choice. `n_cut` were truncated. `n_skipped` more had no room for an answer.
    """

    n_documents: int
    n_exact: int
    n_cut: int
    n_skipped: int
    score: Score


@dataclass(frozen=True, slots=True)
class ImatrixReport:
    """What is in an importance matrix, and how this run made it.

    `n_total_chunks` and `datasets` count what was added from files too. Of `n_experts` expert
    matrices `n_unused_experts` got no token. `n_chunks` chunks were evaluated, `n_resumed` of them
    by a run that was interrupted. `peak_bytes` is the largest resident size of the process.
    """

    n_ctx: int
    n_total_chunks: int
    n_matrices: int
    n_experts: int
    n_unused_experts: int
    datasets: tuple[str, ...]
    n_chunks: int = 0
    n_resumed: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0


def describe_sums(sums: ActivationSums) -> ImatrixReport:
    """Return what is in `sums`."""
    return ImatrixReport(
        n_ctx=sums.chunk_size,
        n_total_chunks=sums.n_chunks,
        n_matrices=len(sums.matrices),
        n_experts=sums.n_experts,
        n_unused_experts=sums.n_unused_experts,
        datasets=sums.datasets,
    )

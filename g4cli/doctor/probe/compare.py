"""Ask a model again with one thing changed: the configuration of llama.cpp or the format.

Greedy decoding of one prompt gives one answer. If another configuration (the GPU, no flash
attention, small batches, another KV cache type, repacked weights) gives a different one, one of the
two computes wrongly, and the file is not to blame. Kernels differ in the last bits, so two sound
runs may diverge where two tokens are about equally probable. Runs count as different only if one of
them is broken and the other is not, or if they diverge within the first 8 tokens although each of
them was sure: it gave the token that it chose there a probability of 60 % or more (choices).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from g4cli.core.progress import Progress, no_progress
from g4cli.core.units import size_text
from g4cli.doctor.probe.answers import is_broken, mean_score
from g4cli.doctor.probe.child import (
    MEMORY_BYTES,
    GreedyRun,
    ProbeResult,
    count_model_bytes,
    greedy_probe,
)
from g4cli.doctor.probe.prompts import Format, Question

# Tokens of an answer of a large file, or of another configuration: enough to see a loop of two
# tokens, and half of what a small file is asked for.
N_ANSWER_TOKENS_SHORT: Final = 16
# Answers that diverge within so many tokens, at tokens of at least this probability in both, are
# different (see above). Later the last bits of sound kernels may have added up.
_EARLY_TOKENS: Final = 8
_SURE_PROBABILITY: Final = 0.6
# Of free memory, the share that a second copy of the weights may take; buffers need the rest.
_MAX_COPY_SHARE: Final = 0.6

ConfigKind: TypeAlias = Literal["gpu", "attention", "batch", "kv", "repack"]
"""Which part of the engine a configuration changes: the advice depends on it."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """A configuration of llama.cpp: how messages call it, and the `options` of `greedy_probe`.

    `copies_weights`: it needs memory for a second copy of the weights, on the GPU if `needs_gpu`.
    """

    kind: ConfigKind
    name: str
    options: tuple[tuple[str, Any], ...]
    copies_weights: bool = False
    needs_gpu: bool = False


ALTERNATIVE_CONFIGS: Final = (
    # The first run: CPU, flash attention, batches of 512, F16 KV cache, weights as they are in the
    # file.
    EngineConfig("gpu", "the GPU", (("n_gpu_layers", 999),), copies_weights=True, needs_gpu=True),
    EngineConfig("attention", "flash attention off", (("flash_attn", 0),)),
    EngineConfig("batch", "batches of 8", (("n_ubatch", 8),)),
    EngineConfig("kv", "an F32 KV cache", (("kv_type", "f32"),)),
    EngineConfig("kv", "a Q8_0 KV cache", (("kv_type", "q8_0"),)),
    EngineConfig("repack", "repacked weights", (("use_extra_bufts", True),), copies_weights=True),
)


@dataclass(frozen=True, slots=True)
class ConfigComparison:
    """The answer with another configuration, compared with the first answer.

    They agree in their first `n_same` tokens; the longer one has `n_tokens`. `is_sure`: both gave
    the tokens at which they diverge a high probability. `base_broken` and `broken`: the first
    answer, and this one, prove a fault by themselves. `failed` says how the child died, "" if it
    did not; `untried` why there is no answer to compare, "" if there is one.
    """

    name: str
    kind: ConfigKind
    n_same: int = 0
    n_tokens: int = 0
    failed: str = ""
    untried: str = ""
    is_sure: bool = False
    base_broken: bool = False
    broken: bool = False

    @property
    def differs(self) -> bool:
        """Whether one of the two configurations computes wrongly."""
        if self.untried:
            return False
        diverges_early = self.n_same < min(_EARLY_TOKENS, self.n_tokens)
        return (
            bool(self.failed)
            or self.base_broken != self.broken
            or (diverges_early and self.is_sure)
        )


# Stands for the answer of a child that died before it gave one: broken, and without a token.
_NO_ANSWER: Final = GreedyRun("", (), "", (), 0.0, 0.0, non_finite=1, saturated=0.0)


@dataclass(frozen=True, slots=True)
class FormatAnswers:
    """The answers in a prompt format, one at least, and their mean score."""

    name: str
    runs: tuple[GreedyRun, ...]
    score: float

    @property
    def broken(self) -> bool:
        """Whether every answer proves a fault by itself."""
        return all(is_broken(run) for run in self.runs)


def compare_configs(
    path: Path,
    questions: Sequence[Question],
    first: ProbeResult,
    configs: Sequence[EngineConfig],
    *,
    free_bytes: int = 0,
    progress: Progress = no_progress,
) -> tuple[ConfigComparison, ...]:
    """Return one answer for each of `configs`, compared with the answer of the first run.

    `questions` are those that `first` answered; a question whose answer was broken is preferred. If
    the first child died without an answer, a configuration that answers well differs.
    Configurations for a GPU are left out without one. `free_bytes` is the memory for a second copy
    of the weights, 0 if unknown.
    """
    if not configs:
        return ()
    index = next((i for i, run in enumerate(first.runs) if is_broken(run)), 0)
    base, question = first.runs[index] if first.runs else _NO_ANSWER, questions[index]
    size = count_model_bytes(path)
    comparisons = []
    for number, config in enumerate(configs):
        progress(number, len(configs), config.name)
        if config.needs_gpu and not first.gpus:
            continue
        copies_in_memory = config.copies_weights and not config.needs_gpu
        if copies_in_memory and free_bytes and size > _MAX_COPY_SHARE * free_bytes:
            why = f"a second copy of {size_text(size)} does not fit"
            comparisons.append(ConfigComparison(config.name, config.kind, untried=why))
            continue
        result = greedy_probe(
            path,
            [(question.name, question.text)],
            n_tokens=N_ANSWER_TOKENS_SHORT,
            options=dict(config.options),
            # An eighth more than the file, for padding: a choice.
            limit_bytes=MEMORY_BYTES + (size + size // 8 if config.copies_weights else 0),
        )
        comparisons.append(compare_run(config, base, result))
    return tuple(comparisons)


def compare_run(config: EngineConfig, base: GreedyRun, result: ProbeResult) -> ConfigComparison:
    """Return how the only run in `result`, with the configuration `config`, differs from `base`."""
    name, kind = config.name, config.kind
    if not result.runs:
        if result.child.crashed:
            if base is _NO_ANSWER:
                return ConfigComparison(name, kind, base_broken=True, broken=True)
            return ConfigComparison(name, kind, failed=f"llama.cpp crashes ({result.child.died})")
        return ConfigComparison(name, kind, untried=result.child.failure)
    run = result.runs[0]
    # Compare equally many tokens: a loop of three shows in 18 tokens and not in 16.
    expected, tokens = base.tokens[:N_ANSWER_TOKENS_SHORT], run.tokens[:N_ANSWER_TOKENS_SHORT]
    length = min(len(expected), len(tokens))
    n_same = next((i for i in range(length) if expected[i] != tokens[i]), length)
    return ConfigComparison(
        name,
        kind,
        n_same,
        max(len(expected), len(tokens)),
        is_sure=all(
            n_same < len(answer.top_probability)
            and answer.top_probability[n_same] >= _SURE_PROBABILITY
            for answer in (base, run)
        ),
        base_broken=is_broken(replace(base, tokens=expected)),
        broken=is_broken(replace(run, tokens=tokens)),
    )


def ask_in_formats(
    path: Path,
    formats: Sequence[Format],
    *,
    n_tokens: int,
    progress: Progress,
) -> tuple[FormatAnswers, ...]:
    """Return the answers in each of `formats`, without formats in which the child gave none."""
    answers = []
    for number, (name, questions) in enumerate(formats):
        progress(number, len(formats), name)
        runs = greedy_probe(path, [(q.name, q.text) for q in questions], n_tokens=n_tokens).runs
        if runs:
            score = mean_score(runs, [q.expected for q in questions])
            answers.append(FormatAnswers(name, runs, score))
    return tuple(answers)

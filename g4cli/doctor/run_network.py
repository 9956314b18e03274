"""Run the network of a file: ask some questions, and ask again if the answers are suspicious."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from g4cli.core.progress import Progress
from g4cli.core.units import GIB, size_text
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.probe.child import (
    N_ANSWER_TOKENS,
    ProbeResult,
    count_model_bytes,
    greedy_probe,
)
from g4cli.doctor.probe.compare import (
    ALTERNATIVE_CONFIGS,
    N_ANSWER_TOKENS_SHORT,
    EngineConfig,
    ask_in_formats,
    compare_configs,
)
from g4cli.doctor.probe.prompts import Format, Question

# A choice. Larger files run only with --deep, and for fewer tokens: one takes seconds on a CPU.
LARGE_BYTES: Final = 8 * GIB
# Of free memory, the share that a file may take; the context and buffers need the rest (a choice).
_MAX_FILE_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class Interview:
    """What to ask a network: `questions`; if the answers are suspicious, those of `other_formats`.

    `is_suspicious` judges facts that hold the first answers. `other_formats` is a function, because
    it may render a template in a child process, which is in vain if the answers are not suspicious.
    `text`: what the network reads besides, to see how well it predicts that; "" for nothing.
    """

    questions: tuple[Question, ...]
    is_suspicious: Callable[[FileFacts], bool]
    other_formats: Callable[[], tuple[Format, ...]]
    text: str = ""


def run_network(
    facts: FileFacts,
    path: Path,
    interview: Interview,
    *,
    free_bytes: int,
    large_bytes: int,
    progress: Progress,
) -> FileFacts:
    """Return `facts` with the answers of the network in the file at `path`, or why there are none.

    `free_bytes` is the memory that llama.cpp may use, 0 if unknown. A file of more than
    `large_bytes` runs at depth "deep" only. `progress` counts runs.
    """
    size = count_model_bytes(path)  # llama.cpp loads all parts of a split model
    reason = _reason_not_to_run(facts, size, free_bytes, large_bytes)
    if reason:
        return replace(facts, probe_skipped=reason)
    questions = interview.questions
    n_tokens = N_ANSWER_TOKENS if size <= large_bytes else N_ANSWER_TOKENS_SHORT
    progress(0, 0, f"load it and ask {len(questions)} questions")
    prompts = [(q.name, q.text) for q in questions]
    first = greedy_probe(path, prompts, n_tokens=n_tokens, text=interview.text)
    facts = replace(facts, probe=first, expected=tuple(q.expected for q in questions))

    suspicious = interview.is_suspicious(facts) or facts.depth == "deep"
    configs = _configs_to_compare(first, suspicious=suspicious, untrained=facts.is_untrained)
    comparisons = compare_configs(
        path, questions, first, configs, free_bytes=free_bytes, progress=progress
    )
    facts = replace(facts, comparisons=comparisons)
    if not (first.runs and suspicious) or facts.is_untrained:
        return facts
    formats = interview.other_formats()
    answers = ask_in_formats(path, formats, n_tokens=n_tokens, progress=progress)
    return replace(facts, formats=answers)


def _configs_to_compare(
    first: ProbeResult, *, suspicious: bool, untrained: bool
) -> tuple[EngineConfig, ...]:
    """Return the configurations of llama.cpp that the first answers should be compared with."""
    on_cpu = tuple(config for config in ALTERNATIVE_CONFIGS if not config.needs_gpu)
    if not first.runs:
        # A crash may belong to one configuration: another one may answer.
        return on_cpu if first.child.crashed else ()
    if untrained:
        return ()  # with random weights, rounding alone changes the answers
    if suspicious:
        return ALTERNATIVE_CONFIGS
    # g4 chat would use the GPU, and the CPU's good answer says nothing about it.
    return tuple(config for config in ALTERNATIVE_CONFIGS if config.needs_gpu)


def _reason_not_to_run(facts: FileFacts, size: int, free_bytes: int, large_bytes: int) -> str:
    """Return why the network of `size` bytes is not run, or ''."""
    if free_bytes and size > _MAX_FILE_SHARE * free_bytes:
        return f"{size_text(size)} do not fit into {size_text(free_bytes)} of memory"
    if size > large_bytes and facts.depth != "deep":
        return f"{size_text(size)} take minutes: only with --deep"
    if facts.stats and all(s.all_zero for s in facts.stats):
        return "all weights are zero"
    return ""

"""Diagnose a file: read facts, ask llama.cpp, check, ask again if answers are suspicious, judge.

    gather_facts    header, hashes, statistics of the data                 facts/
    probe_file      tokenizer, greedy answers to a few questions           probe/ in child processes
                    is_suspicious? then the same with one thing changed    checks/, probe/
    judge_facts     every check on all facts, then the verdict             checks/, verdict

Theory. Whatever is wrong with a model, its user sees the same: it does not load, or it answers
nonsense. Five causes have to be told apart: the bytes are damaged, the conversion was wrong, the
tokenizer or the chat template is not Gemma 4's, or llama.cpp or the machine fails. Two kinds of
evidence do that.

*Comparison.* All published Gemma 4 files agree in much (reference.py): keys, the tensors that
follow from the shape, the vocabulary, the RoPE table. Trained weights have properties that damage
destroys: finite values, scales of a plausible size, no pages of zeros, no repeated rows. A check
that fails names the cause that it points to, and how certain that is.

*Experiment.* llama.cpp answers a few questions with known answers, greedily, so that one
configuration has one answer. If the answers are wrong, the same is asked with one thing changed: a
fault of the file shows in every configuration of llama.cpp and in every prompt format, so if
another configuration answers well, the engine is at fault, and if another format does, the
template is.

The verdict is the cause of the most certain failure; among equally certain ones, the cause that
explains the others (verdict.PRECEDENCE). Nothing is concluded from a network with random weights.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from g4cli.core.errors import NotGGUF
from g4cli.core.hub_name import is_on_hub
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_word
from g4cli.core.units import GIB, size_text
from g4cli.doctor.checks import file, keys, mmproj, probe, template, tensors, tokenizer, weights
from g4cli.doctor.checks.machine import CHECKS as MACHINE_CHECKS
from g4cli.doctor.facts.file_facts import JUDGED_KINDS, Depth, FileFacts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.known_bugs import find_bugs
from g4cli.doctor.probe.child import N_TOKENS, ProbeResult, greedy_probe
from g4cli.doctor.probe.compare import (
    ALTERNATIVE_CONFIGS,
    N_TOKENS_SHORT,
    EngineConfig,
    ask_in_formats,
    compare_configs,
)
from g4cli.doctor.probe.engine import ask_backends
from g4cli.doctor.probe.prompts import other_formats, plain_text_questions, render_chat_questions
from g4cli.doctor.probe.tokenizer import ask_tokenizer
from g4cli.doctor.report import Check, Report, is_requested, run_checks, skipped
from g4cli.doctor.verdict import SUMMARY, decide_verdict, judge_without_failures

# In this order, because what an early check finds explains what later ones find.
CHECKS: Final[tuple[Check, ...]] = (
    *file.CHECKS, *keys.CHECKS, *mmproj.CHECKS, *tensors.CHECKS, *tokenizer.CHECKS,
    *template.CHECKS, *weights.CHECKS, *probe.CHECKS,
)  # fmt: skip
# Checks and families that hold for a GGUF of any kind; the others need a file of Gemma 4.
_ANY_KIND: Final = ("file", "keys.architecture", "tensors.parts")
# Larger files run only with --deep, and for fewer tokens: a token takes seconds on a CPU.
LARGE_BYTES: Final = 8 * GIB
# The known texts contain tokens up to 107, the newline.
_MIN_TOKENS: Final = 108


def diagnose_file(
    path: Path,
    *,
    depth: Depth = "default",
    only: tuple[str, ...] = (),
    free_bytes: int = 0,
    large_bytes: int = LARGE_BYTES,
    progress: Progress = no_progress,
) -> Report:
    """Return the report on the file at `path`, from the checks (or families) in `only`, or all.

    `free_bytes` is the memory that llama.cpp may use, 0 if unknown. A file of more than
    `large_bytes` runs at depth "deep" only. `progress` counts tensors, then runs. Raises
    FileMissing, and UsageError for a directory or a file that cannot be opened.
    """
    facts = gather_facts(path, depth, only=only, progress=progress)
    facts = probe_file(
        facts,
        path,
        only=only,
        free_bytes=free_bytes,
        large_bytes=large_bytes,
        progress=progress,
    )
    return judge_facts(facts, only)


def probe_file(
    facts: FileFacts,
    path: Path,
    *,
    only: tuple[str, ...] = (),
    free_bytes: int = 0,
    large_bytes: int = LARGE_BYTES,
    progress: Progress = no_progress,
) -> FileFacts:
    """Return `facts` with what llama.cpp makes of the file, as far as the checks in `only` need it.

    Nothing is asked at depth "quick" or about a file without Gemma 4's shape. For the arguments see
    `diagnose_file`.
    """
    header, vocabulary = facts.header, facts.vocabulary
    if facts.depth == "quick" or header is None or facts.shape is None:
        return facts
    if facts.kind not in JUDGED_KINDS:
        return facts
    complete = header.data_end <= facts.size
    if (
        vocabulary is not None
        and vocabulary.n_tokens >= _MIN_TOKENS
        and complete
        and is_requested(only, "tokenizer")
    ):
        facts = replace(facts, tokenizer=ask_tokenizer(path, vocabulary.n_tokens))
    types = {tensor.type.name for tensor in header.tensors.values()}
    if is_requested(only, "tensors.engine-bug") and find_bugs(types):
        facts = replace(facts, backends=ask_backends())
    if not (header.tensors and complete and is_requested(only, "probe")):
        return facts
    reason = _reason_not_to_run(facts, free_bytes, large_bytes)
    if reason:
        return replace(facts, probe_skipped=reason)
    n_tokens = N_TOKENS if facts.size <= large_bytes else N_TOKENS_SHORT
    return _run_network(facts, path, n_tokens, free_bytes, progress)


def _run_network(
    facts: FileFacts, path: Path, n_tokens: int, free_bytes: int, progress: Progress
) -> FileFacts:
    """Ask some questions; if the answers are suspicious, ask again with one thing changed."""
    name, text = facts.model_name, facts.template
    # A pre-trained model has never seen a turn.
    is_chat = facts.is_chat_model or "<|turn>" in (text or "")
    questions = render_chat_questions(name) if is_chat else plain_text_questions(name)
    progress(0, 0, f"{len(questions)} questions")
    first = greedy_probe(path, [(q.name, q.text) for q in questions], n_tokens=n_tokens)
    facts = replace(facts, probe=first, expected=tuple(q.expected for q in questions))

    suspicious = probe.is_suspicious(facts) or facts.depth == "deep"
    configs = _configs_to_compare(first, suspicious=suspicious, untrained=facts.is_untrained)
    comparisons = compare_configs(
        path, questions, first, configs, free_bytes=free_bytes, progress=progress
    )
    facts = replace(facts, comparisons=comparisons)
    if not (first.runs and suspicious and is_chat) or facts.is_untrained:
        return facts
    formats = other_formats(questions, name, text)
    answers = ask_in_formats(path, formats, n_tokens=n_tokens, progress=progress)
    return replace(facts, formats=answers)


def _configs_to_compare(
    first: ProbeResult, *, suspicious: bool, untrained: bool
) -> tuple[EngineConfig, ...]:
    """Return the configurations of llama.cpp that the first answers should be compared with."""
    on_cpu = tuple(config for config in ALTERNATIVE_CONFIGS if not config.needs_gpu)
    if not first.runs:
        # A crash may belong to one configuration: another one may answer.
        crashed = first.exit_code < 0 and not (first.timed_out or first.over_limit)
        return on_cpu if crashed else ()
    if untrained:
        return ()
    if suspicious:
        return ALTERNATIVE_CONFIGS
    # g4 chat would use the GPU, and the CPU's good answer says nothing about it.
    return tuple(config for config in ALTERNATIVE_CONFIGS if config.needs_gpu)


def _reason_not_to_run(facts: FileFacts, free_bytes: int, large_bytes: int) -> str:
    """Return why the network is not run, or ''."""
    if free_bytes and facts.size > 0.9 * free_bytes:
        return f"{size_text(facts.size)} do not fit into {size_text(free_bytes)} of memory"
    if facts.size > large_bytes and facts.depth != "deep":
        return f"{size_text(facts.size)} take minutes: only with --deep"
    if facts.stats and all(s.all_zero for s in facts.stats):
        return "all weights are zero"
    return ""


def judge_facts(facts: FileFacts, only: tuple[str, ...] = ()) -> Report:
    """Return the report on `facts`, from the checks (or families) in `only`, or all."""
    results = run_checks(_checks_for(facts), facts, only)
    findings = tuple(replace(f, fix=insert_names(f.fix, facts)) for f in results)
    verdict, confidence, decisive = decide_verdict(findings)
    summary, fix = SUMMARY[verdict], decisive[0].fix if decisive else ""
    if isinstance(facts.fault, NotGGUF):
        verdict, confidence, summary = "not-a-gguf", "certain", f"this is {facts.fault.identity}"
        fix = fix or facts.fault.hint or ""
    elif verdict == "healthy" and facts.header is not None:
        verdict, summary, fix = judge_without_failures(facts, facts.header, findings)
    return Report(
        subject=facts.path,
        verdict=verdict,
        confidence=confidence,
        summary=summary,
        evidence=tuple(f.found for f in decisive),
        fix=fix,
        findings=findings,
        kind=facts.kind,
    )


def _checks_for(facts: FileFacts) -> tuple[Check, ...]:
    """Return all checks; those that do not hold for this kind of file give "skipped"."""
    if facts.kind in JUDGED_KINDS:
        return CHECKS
    why = "the header cannot be read" if facts.header is None else "holds for Gemma 4 only"
    return tuple(
        check
        if check.id in _ANY_KIND or check.family in _ANY_KIND
        else replace(check, run=lambda _: skipped(why))
        for check in CHECKS
    )


def known_ids(*, machine: bool = False) -> set[str]:
    """Return what --only may name for a file or for the machine: ids and families of checks."""
    checks = MACHINE_CHECKS if machine else CHECKS
    return {name for check in checks for name in (check.id, check.family)}


def insert_names(fix: str, facts: FileFacts) -> str:
    """Return `fix` with the names of file, repaired copy and model in it, quoted for a shell."""
    names = {
        "FILE": shell_word(Path(facts.path) if not is_on_hub(facts.path) else facts.path),
        "OUT": shell_word(Path(f"{Path(facts.path).stem}-repaired.gguf")),
    }
    if facts.model_name:
        names["g4 pull MODEL"] = f"g4 pull {shell_word(facts.model_name)}"
    return re.sub(r"\b(?:FILE|OUT|g4 pull MODEL)\b", lambda m: names.get(m[0], m[0]), fix)

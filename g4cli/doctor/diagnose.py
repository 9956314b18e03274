"""Diagnose a file or this machine: read facts, ask llama.cpp, check, judge.

For a file, in these steps:

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
from g4cli.core.hub_address import is_on_hub
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_word
from g4cli.doctor.checks import (
    any_model,
    file,
    keys,
    mmproj,
    probe,
    template,
    tensors,
    tokenizer,
    weights,
)
from g4cli.doctor.checks.advice import EXAMINE, EXAMINE_DEEP, OTHER_MODEL_ADVICE
from g4cli.doctor.checks.machine import CHECKS as MACHINE_CHECKS
from g4cli.doctor.facts.file_facts import JUDGED_KINDS, Depth, FileFacts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.facts.machine import MachineFacts, read_machine
from g4cli.doctor.known_faults import find_type_faults
from g4cli.doctor.probe.any_model import (
    find_control_tokens,
    own_plain_questions,
    own_questions,
    prepend_bos,
    render_own_template,
)
from g4cli.doctor.probe.engine import ask_backends, ask_engine
from g4cli.doctor.probe.prompts import (
    PLAIN_ENGLISH,
    PLAIN_TEXT,
    other_formats,
    plain_text_questions,
    render_chat_questions,
)
from g4cli.doctor.probe.tokenizer import ask_tokenizer, known_texts
from g4cli.doctor.report import Check, Finding, Report, is_requested, run_checks, skipped
from g4cli.doctor.run_network import LARGE_BYTES, Interview, run_network
from g4cli.doctor.verdict import SUMMARY, decide_verdict, judge_without_failures

# In this order, because what an early check finds explains what later ones find.
CHECKS: Final[tuple[Check, ...]] = (
    *file.CHECKS, *keys.CHECKS, *mmproj.CHECKS, *tensors.CHECKS, *tokenizer.CHECKS,
    *template.CHECKS, *weights.CHECKS, *probe.CHECKS,
)  # fmt: skip
# Checks and families that are run on a GGUF of any kind; the others need a file of Gemma 4.
_ANY_KIND: Final = ("file", "keys.architecture", "tensors.parts")
# Those that are run unchanged on a language model of another architecture: they judge tensor data.
# any_model.CHECKS replaces others, by their ids.
_ANY_MODEL: Final = (
    *_ANY_KIND, "weights.zero", "weights.finite", "weights.scales", "weights.norms",
    "weights.duplicates", "tensors.engine-bug",
)  # fmt: skip
# Of another model: the checks and families that need what llama.cpp makes of its vocabulary. Its
# answer also tells whether it knows the architecture.
_NEED_TOKENIZER: Final = ("tokenizer", "template", "probe", "keys.architecture")
_GEMMA4_ONLY: Final = "holds for Gemma 4 only"
# Tokens that a vocabulary needs for the known texts: their ids go up to 107, the newline.
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
    `large_bytes` runs at depth "deep" only. `progress` names each step, and counts tensors and
    runs. Raises FileMissing, and UsageError for a directory or a file that cannot be opened.
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

    Nothing is asked at depth "quick" or about a file that is no language model. For the arguments
    see `diagnose_file`.
    """
    header, vocabulary = facts.header, facts.vocabulary
    if facts.depth == "quick" or header is None or facts.kind not in JUDGED_KINDS:
        return facts
    complete = header.data_end <= facts.size
    if facts.is_other_model:
        if (
            vocabulary is not None
            and complete
            and any(is_requested(only, name) for name in _NEED_TOKENIZER)
        ):
            progress(0, 0, "chat template and tokenizer")
            prompt = render_own_template(facts.template, header) if facts.template else None
            tokenizer = ask_tokenizer(path, find_control_tokens(prompt))
            facts = replace(facts, own_prompt=prompt, tokenizer=tokenizer)
        interview = _interview_other_model(facts)
    elif facts.shape is not None:
        if (
            vocabulary is not None
            and vocabulary.n_tokens >= _MIN_TOKENS
            and complete
            and is_requested(only, "tokenizer")
        ):
            progress(0, 0, "tokenizer")
            texts = [text for text, _ in known_texts(vocabulary.n_tokens)]
            facts = replace(facts, tokenizer=ask_tokenizer(path, texts))
        interview = _interview_gemma4(facts)
    else:
        return facts
    types = {tensor.type.name for tensor in header.tensors.values()}
    if is_requested(only, "tensors.engine-bug") and find_type_faults(types):
        progress(0, 0, "backends of llama.cpp")
        facts = replace(facts, backends=ask_backends())
    if interview is None or not (header.tensors and complete and is_requested(only, "probe")):
        return facts
    return run_network(
        facts,
        path,
        interview,
        free_bytes=free_bytes,
        large_bytes=large_bytes,
        progress=progress,
    )


def _interview_gemma4(facts: FileFacts) -> Interview:
    """Return the questions for a Gemma 4 network, in turns or, before instruction tuning, plain."""
    name, text = facts.model_name, facts.template
    # A pre-trained model has never seen a turn.
    is_chat = facts.is_chat_model or "<|turn>" in (text or "")
    questions = render_chat_questions(name) if is_chat else plain_text_questions(name)
    return Interview(
        questions,
        probe.is_suspicious,
        lambda: other_formats(questions, name, text) if is_chat else (),
    )


def _interview_other_model(facts: FileFacts) -> Interview | None:
    """Return the questions for another network; None if llama.cpp cannot ask it any."""
    tokenizer = facts.tokenizer
    if tokenizer is None or tokenizer.failure or facts.reason_not_generative:
        return None
    asked = own_questions(facts.own_prompt, tokenizer)
    plain = own_plain_questions(tokenizer)
    return Interview(
        asked,
        any_model.probe.is_suspicious,
        lambda: ((PLAIN_TEXT, plain),) if asked != plain else (),
        prepend_bos(PLAIN_ENGLISH, tokenizer),
    )


def judge_facts(facts: FileFacts, only: tuple[str, ...] = ()) -> Report:
    """Return the report on `facts`, from the checks (or families) in `only`, or all."""
    results = run_checks(_checks_for(facts), facts, only)
    findings = tuple(replace(f, fix=insert_names(_useful_fix(f, facts), facts)) for f in results)
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


def _useful_fix(finding: Finding, facts: FileFacts) -> str:
    """Return what to do about a finding, '' if it is a command that would skip the check again."""
    if finding.status != "skipped" or facts.depth == "quick":
        return finding.fix
    can_go_deeper = facts.depth != "deep" and (facts.probe is not None or facts.probe_skipped)
    repeats = finding.fix == EXAMINE
    too_deep = finding.fix.startswith(EXAMINE_DEEP) and finding.id.startswith("probe.")
    return "" if repeats or (too_deep and not can_go_deeper) else finding.fix


def _checks_for(facts: FileFacts) -> tuple[Check, ...]:
    """Return all checks; those that do not hold for this kind of file give "skipped"."""
    if facts.is_other_model:
        own = {check.id: check for check in any_model.CHECKS}
        return tuple(
            own.get(check.id, check if _is_in(_ANY_MODEL, check) else _skip(check, _GEMMA4_ONLY))
            for check in CHECKS
        )
    if facts.kind in JUDGED_KINDS:
        return CHECKS
    why = "the header cannot be read" if facts.header is None else _GEMMA4_ONLY
    return tuple(check if _is_in(_ANY_KIND, check) else _skip(check, why) for check in CHECKS)


def _is_in(names: tuple[str, ...], check: Check) -> bool:
    return check.id in names or check.family in names


def _skip(check: Check, why: str) -> Check:
    """Return the check with a result that says why it was not run."""
    return replace(check, run=lambda _: skipped(why))


def known_ids(*, machine: bool = False) -> set[str]:
    """Return what --only may name for a file or for the machine: ids and families of checks."""
    checks = MACHINE_CHECKS if machine else CHECKS
    return {name for check in checks for name in (check.id, check.family)}


def insert_names(fix: str, facts: FileFacts) -> str:
    """Return `fix` with the names of file, folder, copy and model in it, quoted for a shell."""
    names = {
        "FILE": shell_word(Path(facts.path) if not is_on_hub(facts.path) else facts.path),
        "FOLDER": shell_word(Path(facts.path).parent),
        "OUT": shell_word(Path(f"{Path(facts.path).stem}-repaired.gguf")),
    }
    if facts.is_other_model:
        fix = OTHER_MODEL_ADVICE.get(fix, fix)
    if facts.model_name:
        names["g4 pull MODEL"] = f"g4 pull {shell_word(facts.model_name)}"
    return re.sub(r"\b(?:FILE|FOLDER|OUT|g4 pull MODEL)\b", lambda m: names.get(m[0], m[0]), fix)


def diagnose_machine(
    only: tuple[str, ...] = (), *, memory_total: int = 0, memory_free: int = 0
) -> Report:
    """Return the report on this machine. llama.cpp is asked in a child process, as it may crash.

    `memory_total` and `memory_free` are the bytes that processes here may use, 0 if unknown.
    """
    facts = read_machine(ask_engine(), memory_total=memory_total, memory_free=memory_free)
    return judge_machine(facts, only)


def judge_machine(facts: MachineFacts, only: tuple[str, ...] = ()) -> Report:
    """Return the report on facts already gathered."""
    findings = run_checks(MACHINE_CHECKS, facts, only)
    verdict, confidence, decisive = decide_verdict(findings)
    return Report(
        subject="this machine",
        verdict=verdict,
        confidence=confidence,
        summary="this machine is ready for g4" if verdict == "healthy" else SUMMARY[verdict],
        evidence=tuple(f.found for f in decisive),
        fix=decisive[0].fix if decisive else "",
        findings=findings,
    )

"""Let the network talk in a child process, and again in other ways where its answers are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from g4cli.core.progress import Progress, no_progress
from g4cli.core.units import GIB, size_text
from g4cli.doctor.checks.probe import is_suspicious
from g4cli.doctor.checks.template import template_of
from g4cli.doctor.memory import available_bytes
from g4cli.doctor.probe.child import N_TOKENS, greedy_probe
from g4cli.doctor.probe.compare import N_SHORT, WAYS, try_frames, try_ways
from g4cli.doctor.probe.prompts import (
    FILE,
    PLAIN,
    Asked,
    chat_questions,
    plain_beginnings,
    template_questions,
)

if TYPE_CHECKING:
    from g4cli.doctor.facts.file_facts import FileFacts

# Larger files are asked to talk only with --deep, and answer with fewer words: seconds a token on a CPU.
_LARGE: Final = 8 * GIB


def talked(facts: FileFacts, path: Path, progress: Progress = no_progress) -> FileFacts:
    """Return `facts` with the answers of a child, or with the reason why there are none."""
    free = available_bytes()
    skipped = _skipped(facts, free)
    if skipped:
        return replace(facts, probe_skipped=skipped)
    name, template = facts.model_name, template_of(facts)
    # A base model has never seen a turn.
    is_chat = facts.is_chat_model or "<|turn>" in (template or "")
    asked = chat_questions(name) if is_chat else plain_beginnings(name)
    n_tokens = N_TOKENS if facts.size <= _LARGE else N_SHORT
    progress(0, 0, f"{len(asked)} questions")
    probe = greedy_probe(path, [(a.name, a.text) for a in asked], n_tokens=n_tokens)
    facts = replace(facts, probe=probe, expected=tuple(a.want for a in asked))
    if not probe.runs:
        # A crash may belong to one way of running the file: with another it may talk.
        crashed = probe.exit_code < 0 and not (probe.timed_out or probe.over_limit)
        ways = [way for way in WAYS if not way.needs_gpu] if crashed else []
        return replace(
            facts, variants=try_ways(path, asked, probe, ways, free_bytes=free, progress=progress)
        )
    if facts.untrained or (facts.depth != "deep" and not is_suspicious(facts)):
        # A GPU is what g4 chat would use: the CPU's good answer says nothing about it.
        ways = [way for way in WAYS if way.needs_gpu] if probe.gpus and not facts.untrained else []
        return replace(facts, variants=try_ways(path, asked, probe, ways, progress=progress))
    frames = _frames(asked, name, template) if is_chat else []
    return replace(
        facts,
        variants=try_ways(path, asked, probe, free_bytes=free, progress=progress),
        frames=try_frames(path, frames, n_tokens=n_tokens, progress=progress),
    )


def _skipped(facts: FileFacts, free: int) -> str:
    """Return why the network is not asked, or ''."""
    if free and facts.size > 0.9 * free:
        return f"{size_text(facts.size)} do not fit into {size_text(free)} of memory"
    if facts.size > _LARGE and facts.depth != "deep":
        return f"{size_text(facts.size)} take minutes: only with --deep"
    if facts.stats and all(s.all_zero for s in facts.stats):
        return "there is no data"
    return ""


def _frames(
    asked: Sequence[Asked], name: str, template: str | None
) -> list[tuple[str, Sequence[Asked]]]:
    framed = template_questions(name, template) if template else ()
    found: list[tuple[str, Sequence[Asked]]] = []
    if template and [a.text for a in framed] != [a.text for a in asked]:
        found.append((FILE, framed))
    return [*found, (PLAIN, plain_beginnings(name))]

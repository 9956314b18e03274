"""Checks of the answers of a model of another architecture than Gemma 4.

What a sound model answers is not known, and small models answer little rightly. So a wrong answer
is called weak, and only what no trained network does is called a fault: logits that are not
numbers, a next token that is near a random guess, answers that another configuration of llama.cpp
does not give.
"""

from __future__ import annotations

from math import log2, prod
from typing import Final

from g4cli.core.units import size_text
from g4cli.doctor.checks.advice import GET_ANOTHER
from g4cli.doctor.checks.probe import (
    check_configs,
    check_entropy,
    check_load,
    check_logits,
    check_loop,
    fail_network,
    skip_formats,
)
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.probe.answers import mean_score, shorten_answer
from g4cli.doctor.probe.compare import FormatAnswers
from g4cli.doctor.probe.prompts import PLAIN_TEXT
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

# Of smaller networks no right answer can be demanded. SmolLM2-135M answers three of three
# questions, but nothing between it and published models of 1e9 weights was measured.
_LARGE_ENOUGH: Final = 1_000_000_000  # weights
# Score of three plain texts above which most of them were continued as expected.
_MIN_CONTINUED: Final = 0.5
# Difference of the highest and the lowest logit above which one token counts (see
# check_logits_range).
_MAX_SPREAD: Final = 1000.0


def check_logits_range(facts: FileFacts) -> Outcome:
    """As `probe.check_logits`; also fail for logits so far apart that nothing but one token counts.

    The largest difference is 62 in SmolLM2-135M. A difference of 1,000 is a probability of
    exp(-1000): the last norm or the output has a wrong scale.
    """
    outcome = check_logits(facts)
    spread = max((run.highest - run.lowest for run in facts.runs), default=0.0)
    if outcome.status != "ok" or spread < _MAX_SPREAD or facts.is_untrained:
        return outcome
    return fail_network(
        f"the logits differ by {spread:,.0f}, so one token has all the probability: the last norm "
        "or the output matrix has a wrong scale, and sampling has no effect"
    )


def check_prediction(facts: FileFacts) -> Outcome:
    """As `probe.check_entropy`; also fail if plain English is predicted worse than by chance.

    Chance is log2 of the vocabulary: 15.6 bits for SmolLM2-135M, which needs 2.6 bits per token. A
    network that was trained on text of any language or on code knows at least which tokens are
    common. This tells a network with damaged weights, which may be certain of its nonsense, from a
    small one.
    """
    outcome, probe = check_entropy(facts), facts.probe
    if outcome.status != "ok" or probe is None or probe.surprise is None:
        return outcome
    chance = log2(probe.n_vocab)
    found = f"plain English is predicted with {probe.surprise:.1f} bits"
    if probe.surprise < chance:
        return ok(f"{outcome.found}; {found}")
    return fail_network(
        f"{found} per token, worse than a random guess ({chance:.1f}): no network that was trained "
        "on text does this"
    )


def check_answers(facts: FileFacts) -> Outcome:
    """Say how many of three simple questions are answered correctly; a small model may be weak."""
    if not facts.runs:
        return skipped("there are no answers")
    if facts.is_untrained:
        return warn("the weights are random: the answers prove nothing")
    n_right = round(mean_score(facts.runs, facts.expected) * len(facts.runs))
    first = facts.runs[0]
    text = (
        f"{n_right} of {len(facts.runs)} simple questions answered correctly; to {first.prompt!r} "
        f"it answers {shorten_answer(first)!r}"
    )
    if n_right:
        return ok(text)
    n_weights = sum(prod(t.shape) for t in facts.tensors.values())
    if n_weights < _LARGE_ENOUGH or _continues_text(facts):
        return warn(f"{text}: weak, which a small or a special model may be")
    return fail_network(text)


def check_formats(facts: FileFacts) -> Outcome:
    """Fail if plain text is continued well and no question in the file's template is answered."""
    plain = _find_plain_answers(facts)
    if outcome := skip_formats(facts, plain is not None):
        return outcome
    if mean_score(facts.runs, facts.expected) > 0:
        return ok("the file's template and plain text both give sound answers")
    if not _continues_text(facts):
        return ok("plain text is continued as badly: the template is not at fault")
    assert plain is not None
    first = plain.runs[0]
    return fail(
        f"plain text is continued well ({first.prompt!r}: {shorten_answer(first)!r}), questions in "
        "the file's own template are not answered: template and model do not belong together",
        GET_ANOTHER,
        cause="template",
        confidence="medium",
    )


def _find_plain_answers(facts: FileFacts) -> FormatAnswers | None:
    """Return the continuations of plain texts, None if there are none."""
    return next((f for f in facts.formats if f.name == PLAIN_TEXT), None)


def _continues_text(facts: FileFacts) -> bool:
    """Return whether most plain texts are continued as any language model does."""
    plain = _find_plain_answers(facts)
    return plain is not None and not plain.broken and plain.score > _MIN_CONTINUED


def is_suspicious(facts: FileFacts) -> bool:
    """Return whether the first answers fail a check, so that asking again may tell why."""
    wrong = facts.probe is not None and not mean_score(facts.runs, facts.expected)
    suspects = (check_loop, check_logits_range, check_prediction)
    return wrong or any(check(facts).status == "fail" for check in suspects)


def check_loading(facts: FileFacts) -> Outcome:
    """Judge as `probe.check_load` does, but a large need for memory is no fault here."""
    probe = facts.probe
    if probe is not None and probe.child.over_limit:
        return skipped(
            f"it needs more than {size_text(probe.child.limit_bytes)} besides the file to answer a "
            "question: it was not run"
        )
    if facts.has_unknown_architecture:
        return skipped("this llama.cpp does not know the architecture")
    return check_load(facts)


CHECKS: Final = (
    Check("probe.load", check_loading),
    Check("probe.loop", check_loop),
    Check("probe.logits", check_logits_range),
    Check("probe.entropy", check_prediction),
    Check("probe.answers", check_answers),
    Check("probe.configs", check_configs),
    Check("probe.formats", check_formats),
)

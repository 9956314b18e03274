"""What did llama.cpp do with the file: did it load, did it talk, did it fall into a loop at once?"""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING, Final

from g4cli.core.units import size_text
from g4cli.doctor.probe.answers import PINNED, RIGHT, early_loop, share_right, shown
from g4cli.doctor.probe.child import reason
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

if TYPE_CHECKING:
    from g4cli.doctor.facts.file_facts import FileFacts

_ELSEWHERE: Final = "get another file (g4 pull MODEL), then g4 doctor that one"
# The mean entropy of the next token, as a share of the entropy of knowing nothing (log2 of the vocabulary),
# above which a network is broken. Measured on `tiny` alone: see check_entropy.
_KNOWS_NOTHING: Final = 0.5
# Below this, in bits, there is no doubt at all about the next token.
_NO_DOUBT: Final = 0.01
# Tokens that are no text, in the published vocabulary: first, last.
_NO_TEXT: Final = ((0, 0), (3, 4), (6, 45), (53, 97), (99, 99), (102, 104), (255_999, 262_143))


def check_loads(facts: FileFacts) -> Outcome:
    """Say whether llama.cpp took the file, and if it died, of what."""
    probe = facts.probe
    if probe is None:
        return skipped(facts.probe_skipped or "not tried", "g4 doctor FILE --deep")
    if probe.over_limit:
        return _too_much(facts)
    if probe.timed_out:
        return skipped("no answer in time: the model is too slow here to judge", "g4 fit FILE")
    if probe.died:
        return fail(
            f"llama.cpp died on this file ({probe.died})",
            "g4 doctor (checks this machine), then another file of the same model",
            cause="runtime",
            confidence="medium",
        )
    if probe.exit_code:
        return fail(
            f"llama.cpp refuses the file: {reason(probe.error)}",
            _ELSEWHERE,
            cause="conversion-defect",
            confidence="high",
        )
    return ok(f"llama.cpp loads it and answers {len(probe.runs)} prompts")


def _too_much(facts: FileFacts) -> Outcome:
    """Return the outcome of a child that wanted more memory than any published network needs."""
    assert facts.probe is not None
    limit = size_text(facts.probe.limit_bytes)
    if facts.model_name:
        return fail(
            f"llama.cpp wanted more than {limit} besides the file, which {facts.model_name} never needs: "
            "it was stopped",
            "update llama.cpp (g4 doctor shows the version), then try again",
            cause="runtime",
            confidence="medium",
        )
    return fail(
        f"llama.cpp wanted more than {limit} besides the file to answer one question: it was stopped; the "
        "numbers in the header ask for more than any Gemma 4 needs",
        _ELSEWHERE,
        cause="conversion-defect",
        confidence="medium",
    )


def check_loop(facts: FileFacts) -> Outcome:
    """A loop from the first token on every prompt is the file's or the engine's, never the model's."""
    probe = facts.probe
    if probe is None or not probe.runs:
        return skipped("no answers to look at")
    loops = [loop for run in probe.runs if (loop := early_loop(run))]
    if not loops:
        return ok(f"{len(probe.runs)} answers, none of them a loop")
    first = loops[0]
    text = (
        f"{len(loops)} of {len(probe.runs)} answers repeat {first.text!r} from token {first.start + 1} on, "
        "and nothing else"
    )
    if facts.untrained:
        return warn(f"{text}; the weights are random, so this means nothing")
    if len(loops) < len(probe.runs):
        return warn(text)
    figures = [h for run in probe.runs for h in run.entropy]
    if figures and sum(figures) / len(figures) < _NO_DOUBT:
        text += ", without a doubt about it"
    return fail(
        text + "; a sound Gemma 4 never does this",
        _ELSEWHERE,
        cause="conversion-defect",
        confidence="medium",
    )


def check_logits(facts: FileFacts) -> Outcome:
    """Judge the range of the logits: NaN, all equal, pinned at the softcap."""
    probe = facts.probe
    if probe is None or not probe.runs:
        return skipped("no answers to look at")
    non_finite = sum(run.non_finite for run in probe.runs)
    if non_finite:
        return fail(
            f"{non_finite:,} logits are NaN or infinite",
            _ELSEWHERE,
            cause="conversion-defect",
            confidence="medium",
        )
    spread = max(run.highest - run.lowest for run in probe.runs)
    if spread < 1e-3:
        return fail(
            "all logits are equal: the embeddings or the output are zero",
            _ELSEWHERE,
            cause="conversion-defect",
            confidence="high",
        )
    pinned = max(run.saturated for run in probe.runs)
    if pinned > PINNED:
        return fail(
            f"{pinned:.0%} of the logits are pinned at the softcap of 30",
            _ELSEWHERE,
            cause="conversion-defect",
            confidence="medium",
        )
    return ok(f"finite, spread {spread:.0f}, {pinned:.1%} at the softcap")


def check_answers(facts: FileFacts) -> Outcome:
    """Compare the answers with what the model is known to say."""
    probe = facts.probe
    if probe is None or not probe.runs:
        return skipped("no answers to look at")
    if facts.untrained:
        return warn("the weights are random: the answers mean nothing")
    if not facts.model_name or not facts.expected:
        return skipped("g4 does not know what this network answers")
    share = share_right(probe.runs, facts.expected)
    first = probe.runs[0]
    text = f"{share:.0%} of the expected answers; asked {first.prompt!r}, it says {shown(first)!r}"
    if share < RIGHT[facts.model_name == "tiny"]:
        return fail(text, _ELSEWHERE, cause="conversion-defect", confidence="medium")
    return ok(f"{share:.0%} of the expected answers")


def check_entropy(facts: FileFacts) -> Outcome:
    """Judge how sure the network is of the next token, in bits: 0 = certain, log2(vocabulary) = no idea.

    Calibrated on `tiny`, where 9.6 bits are no idea: 0.007 to 0.008 in every type; 0.002 to 3.6 in copies
    that talk nonsense; 6.9 to 9.6 with a foreign output, zero embeddings or all logits at the softcap. So a
    high figure proves a fault and a low one nothing: `tiny` knows its answers by heart, and a copy with
    other layer scales is as sure of its loop. No real weights were at hand.
    """
    probe = facts.probe
    figures = [h for run in probe.runs for h in run.entropy] if probe is not None else []
    if probe is None or not figures or probe.n_vocab < 2:
        return skipped("no answers to look at")
    mean, most = sum(figures) / len(figures), log2(probe.n_vocab)
    text = f"entropy {mean:.2f} bits a token, {max(figures):.2f} at most ({most:.1f} = random)"
    if facts.untrained:
        return warn(f"{text}; the weights are random, so this means nothing")
    if mean > _KNOWS_NOTHING * most:
        return fail(
            f"{text}: the network has no idea what comes next",
            _ELSEWHERE,
            cause="conversion-defect",
            confidence="medium",
        )
    return ok(text)


def check_tokens(facts: FileFacts) -> Outcome:
    """A top token that is no text (padding, unused, an image) is the mark of a numeric fault."""
    probe = facts.probe
    if probe is None or not probe.runs or facts.untrained:
        return skipped("no answers to look at")
    tokens = [t for run in probe.runs for t in run.tokens]
    foreign = [t for t in tokens if any(first <= t <= last for first, last in _NO_TEXT)]
    if tokens and len(foreign) * 4 > len(tokens):
        return fail(
            f"{len(foreign)} of {len(tokens)} tokens are padding, unused or image tokens: a numeric fault",
            "g4 doctor FILE --deep (compares ways to run it)",
            cause="runtime",
            confidence="medium",
        )
    return ok("the answers consist of text")


def is_suspicious(facts: FileFacts) -> bool:
    """Return whether one of the cheap probes failed, so that other ways to run the file are worth a try."""
    suspects = (check_loop, check_logits, check_tokens, check_answers, check_entropy)
    return any(check(facts).status == "fail" for check in suspects)


CHECKS: Final = (
    Check("probe.load", check_loads),
    Check("probe.loop", check_loop),
    Check("probe.logits", check_logits),
    Check("probe.entropy", check_entropy),
    Check("probe.tokens", check_tokens),
    Check("probe.answers", check_answers),
)

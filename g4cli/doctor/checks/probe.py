"""Checks of llama.cpp's answers: loading, loops, logits, expected texts, other configurations.

A fault of the file shows in every configuration of llama.cpp and in every prompt format. So an
answer that another configuration does not give points to the engine, and one that is wrong in one
format only points to the format.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from statistics import fmean
from typing import Final

from g4cli.core.units import count_text, size_text
from g4cli.doctor.checks.advice import (
    EXAMINE_DEEP,
    GET_ANOTHER,
    REPAIR_TEMPLATE,
    REPORT_BUG,
    TRY_SMALLER,
    UPDATE_ENGINE,
    USE_CPU,
    USE_Q8_0_CACHE,
)
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.probe.answers import (
    MAX_SATURATED,
    find_early_loop,
    is_broken,
    least_mean_score,
    mean_score,
    shorten_answer,
)
from g4cli.doctor.probe.child import GreedyRun
from g4cli.doctor.probe.compare import ConfigComparison, FormatAnswers
from g4cli.doctor.probe.prompts import FILE_TEMPLATE, PLAIN_TEXT
from g4cli.doctor.report import Check, Confidence, Outcome, fail, ok, skipped, warn

# The mean entropy of the next token, as a share of that of a random guess (log2 of the vocabulary),
# above which a network is broken: see check_entropy.
_MAX_ENTROPY: Final = 0.5
# Bits of mean entropy below which a message says that the network is certain of its loop.
_CERTAIN: Final = 0.01
# Logits that differ less are all equal: those of sound networks spread over tens.
_MIN_SPREAD: Final = 1e-3
# Share of tokens without text above which answers are no text (a choice; sound ones have none).
_MAX_NO_TEXT: Final = 1 / 4
# Mean score (`mean_score`) from which on plain texts are continued as expected: one right word in
# three texts, and for `tiny` characters (0.85 in sound copies, at most 0.52 in broken ones).
_MIN_CONTINUED: Final = 0.3
_MIN_CONTINUED_TINY: Final = 0.6
# Ids of tokens without text in the published vocabulary, as ranges (first, last).
_NO_TEXT_IDS: Final = ((0, 0), (3, 4), (6, 45), (53, 97), (99, 99), (102, 104), (255_999, 262_143))


def check_load(facts: FileFacts) -> Outcome:
    """Fail if llama.cpp refuses the file, crashes on it or needs too much memory."""
    probe = facts.probe
    if probe is None:
        return skipped(facts.probe_skipped or "llama.cpp was not asked", EXAMINE_DEEP)
    child = probe.child
    if child.over_limit:
        return _too_much_memory(facts, size_text(child.limit_bytes))
    if child.timed_out:
        return skipped("no answer in time: the model is too slow on this machine", TRY_SMALLER)
    if child.died:
        return fail(
            f"llama.cpp crashes on this file ({child.died})",
            "g4 doctor (checks this machine), then try another file of the same model",
            cause="runtime",
            confidence="medium",
        )
    if child.exit_code:
        return fail_network(f"llama.cpp refuses the file: {child.failure}", "high")
    return ok(f"llama.cpp loads it and answers {len(probe.runs)} prompts")


def _too_much_memory(facts: FileFacts, limit: str) -> Outcome:
    """Return the outcome of a child that needed more memory than any published model."""
    if facts.model_name:
        return fail(
            f"llama.cpp needed more than {limit} besides the file, which {facts.model_name} never "
            "does: it was stopped",
            UPDATE_ENGINE,
            cause="runtime",
            confidence="medium",
        )
    return fail_network(
        f"llama.cpp needed more than {limit} besides the file to answer a question: it was "
        "stopped; no Gemma 4 needs as much, so a number in the header is wrong"
    )


def fail_network(found: str, confidence: Confidence = "medium") -> Outcome:
    """Return the failure of a network that computes nonsense: the file was converted wrongly."""
    return fail(found, GET_ANOTHER, cause="conversion-defect", confidence=confidence)


def check_loop(facts: FileFacts) -> Outcome:
    """Fail if every answer is a loop from its first tokens on, which no sound model does."""
    if not facts.runs:
        return skipped("there are no answers")
    loops = [loop for run in facts.runs if (loop := find_early_loop(run))]
    if not loops:
        return ok(f"{len(facts.runs)} answers, none of which is a loop")
    first = loops[0]
    text = (
        f"{count_text(len(loops), 'answer', 'repeat', of=len(facts.runs))} {first.text!r} from "
        f"token {first.start + 1} on, and nothing else"
    )
    if facts.is_untrained:
        return warn(f"{text}; the weights are random, so this proves nothing")
    if len(loops) < len(facts.runs):
        return warn(text)
    entropies = _list_entropies(facts)
    if entropies and fmean(entropies) < _CERTAIN:
        text += ", with certainty"
    return fail_network(text + "; a sound model never does this")


def check_logits(facts: FileFacts) -> Outcome:
    """Fail for logits that are NaN, all equal, or saturated at the softcap."""
    if not facts.runs:
        return skipped("there are no answers")
    non_finite = sum(run.non_finite for run in facts.runs)
    if non_finite:
        return fail_network(f"{count_text(non_finite, 'logit', 'are')} NaN or infinite")
    spread = max(run.highest - run.lowest for run in facts.runs)
    if spread < _MIN_SPREAD:
        return fail_network("all logits are equal: the embeddings are zero", "high")
    saturated = max(run.saturated for run in facts.runs)
    if saturated > MAX_SATURATED:
        return fail_network(f"{saturated:.0%} of the logits are saturated at the softcap of 30")
    at_softcap = f", {saturated:.1%} at the softcap" if facts.shape is not None else ""
    return ok(f"finite, range {spread:.0f}{at_softcap}")


def check_answers(facts: FileFacts) -> Outcome:
    """Compare the answers with those that the model is known to give."""
    if not facts.runs:
        return skipped("there are no answers")
    if facts.is_untrained:
        return warn("the weights are random: the answers prove nothing")
    if not facts.model_name or not facts.expected:
        return skipped("g4 does not know the answers of this model")
    share = mean_score(facts.runs, facts.expected)
    first = facts.runs[0]
    text = (
        f"{share:.0%} of the expected answers; to {first.prompt!r} it answers "
        f"{shorten_answer(first)!r}"
    )
    if share < least_mean_score(facts.model_name):
        return fail_network(text)
    return ok(f"{share:.0%} of the expected answers")


def check_entropy(facts: FileFacts) -> Outcome:
    """Fail if the network is near a random guess: the mean entropy of the next token is too high.

    In bits: 0 is certainty, log2 of the vocabulary a random guess. Measured on `tiny`, where a
    random guess has 9.6 bits: 0.007 to 0.008 in every type; 0.002 to 3.6 in copies that answer
    nonsense; 6.9 to 9.6 in copies with another output matrix, zero embeddings or saturated logits.
    On SmolLM2-135M, where it has 15.6: 2.7 as published; 1.5 to 4.2 in copies that answer nonsense;
    8.2 to 14.6 in copies with another output matrix, exchanged matrices or equal embeddings. So a
    high entropy proves a fault, and a low one proves nothing: a broken network may be certain.
    """
    probe, entropies = facts.probe, _list_entropies(facts)
    if probe is None or not entropies or probe.n_vocab < 2:
        return skipped("there are no answers")
    mean, random_guess = fmean(entropies), log2(probe.n_vocab)
    text = (
        f"entropy {mean:.2f} bits per token, {max(entropies):.2f} at most ({random_guess:.1f} is a "
        "random guess)"
    )
    if facts.is_untrained:
        return warn(f"{text}; the weights are random, so this proves nothing")
    if mean > _MAX_ENTROPY * random_guess:
        return fail_network(f"{text}: close to a random guess")
    return ok(text)


def _list_entropies(facts: FileFacts) -> list[float]:
    """Return the entropy before each token of all answers, in bits."""
    return [bits for run in facts.runs for bits in run.entropy]


def check_tokens(facts: FileFacts) -> Outcome:
    """Fail if many tokens are padding, unused or image tokens, which numeric faults produce."""
    if not facts.runs or facts.is_untrained:
        return skipped("there are no answers")
    tokens = [t for run in facts.runs for t in run.tokens]
    no_text = [t for t in tokens if any(first <= t <= last for first, last in _NO_TEXT_IDS)]
    if len(no_text) > _MAX_NO_TEXT * len(tokens):
        return fail(
            f"{len(no_text)} of {len(tokens)} tokens are padding, unused or image tokens: a "
            "numeric fault",
            f"{EXAMINE_DEEP} (compares configurations of llama.cpp)",
            cause="runtime",
            confidence="medium",
        )
    return ok("the answers consist of text")


def is_suspicious(facts: FileFacts) -> bool:
    """Return whether the first answers fail a check, so that asking again may tell why."""
    suspects = (check_loop, check_logits, check_tokens, check_answers, check_entropy)
    return any(check(facts).status == "fail" for check in suspects)


def check_configs(facts: FileFacts) -> Outcome:
    """Fail if another configuration of llama.cpp gives another answer: one of them is wrong."""
    tried = [c for c in facts.comparisons if not c.untried]
    untried = "".join(
        f"; not tried: {c.name} ({c.untried})" for c in facts.comparisons if c.untried
    )
    if not tried:
        return skipped("only with --deep, or if an answer is wrong" + untried, EXAMINE_DEEP)
    if facts.is_untrained:
        return skipped("the weights are random: answers may differ by rounding alone" + untried)
    bad = [c for c in tried if c.differs]
    if bad:
        return fail(
            f"with {bad[0].name} {_describe_difference(bad[0])}: llama.cpp, not the file, is wrong "
            f"in one of the two{untried}",
            _advise_config(bad[0]),
            cause="runtime",
            confidence="high",
            detail=tuple(c.name for c in bad),
        )
    names = ", ".join(c.name for c in tried)
    if not facts.runs:
        return ok(f"it also crashes with {names}{untried}")
    return ok(f"the same answer with {names}: llama.cpp is not at fault{untried}")


def _describe_difference(comparison: ConfigComparison) -> str:
    """Return what a configuration does in place of giving the first answer."""
    if comparison.failed:
        return comparison.failed
    if comparison.base_broken and not comparison.broken:
        return "the answer is sound, and with the usual configuration it is not"
    if comparison.broken and not comparison.base_broken:
        return "the answer is broken, and with the usual configuration it is sound"
    return f"the answer differs from token {comparison.n_same + 1} on, although both were certain"


def _advise_config(comparison: ConfigComparison) -> str:
    """Return what to do if answers depend on that configuration."""
    if comparison.kind == "gpu":
        return USE_CPU
    if comparison.kind == "kv" and comparison.base_broken:  # only the F16 KV cache fails
        return USE_Q8_0_CACHE
    return f"{UPDATE_ENGINE}, or {REPORT_BUG}"


def check_formats(facts: FileFacts) -> Outcome:
    """Fail if questions are answered well in one prompt format and not in another."""
    tried = {f.name: f for f in facts.formats}
    if outcome := skip_formats(facts, bool(tried)):
        return outcome
    chat_fails = _are_wrong(facts, facts.runs, mean_score(facts.runs, facts.expected))
    template, plain = tried.get(FILE_TEMPLATE), tried.get(PLAIN_TEXT)
    if template is not None and template.broken and not chat_fails:
        found = (
            f"with the file's own template the answer to {template.runs[0].prompt!r} is "
            f"{shorten_answer(template.runs[0])!r}; with Gemma 4's it is sound"
        )
        return fail(found, REPAIR_TEMPLATE, cause="template", confidence="high")
    if template is not None and chat_fails and not _are_wrong(facts, template.runs, template.score):
        return fail(
            "the answers are sound with the file's own template and fail with Gemma 4's: the "
            "model was trained on another chat format",
            "use a program that applies the file's template (llama-server --jinja)",
            cause="template",
            confidence="high",
        )
    if plain is not None and chat_fails and _continues_well(facts, plain):
        return _judge_plain_text_only(facts, plain)
    if chat_fails:
        return ok(f"{' and '.join(tried)} fail in the same way: the template is not at fault")
    return ok(f"{' and '.join(tried)} give good answers too")


def skip_formats(facts: FileFacts, were_tried: bool) -> Outcome | None:
    """Return why the answers in other formats cannot be judged, or None."""
    if not facts.runs or not were_tried:
        return skipped("only with --deep, or if an answer is wrong", EXAMINE_DEEP)
    if facts.is_untrained:
        return skipped("the weights are random: no format gives an answer")
    if any(c.differs for c in facts.comparisons):
        return skipped("llama.cpp is at fault: its answers in other formats prove nothing")
    return None


def _judge_plain_text_only(facts: FileFacts, plain: FormatAnswers) -> Outcome:
    """Return the outcome of a network that continues plain text well and fails in every turn."""
    first = plain.runs[0]
    found = (
        f"plain text is continued well ({first.prompt!r}: {shorten_answer(first)!r}), questions in "
        "turns are not answered"
    )
    if facts.is_chat_model:
        return fail_network(f"{found}: the meaning of the control tokens was lost", "high")
    return fail(
        f"{found}: this is a pre-trained model, not a chat model",
        "get the chat model (-it): g4 pull MODEL",
        cause="template",
        confidence="high",
    )


def _are_wrong(facts: FileFacts, runs: Sequence[GreedyRun], score: float) -> bool:
    """Return whether answers are broken or, if the right ones are known, too few are right."""
    return all(is_broken(run) for run in runs) or (
        bool(facts.model_name) and score < least_mean_score(facts.model_name)
    )


def _continues_well(facts: FileFacts, plain: FormatAnswers) -> bool:
    """Return whether plain text is continued as expected; for unknown models, without a fault."""
    if any(is_broken(run) for run in plain.runs):
        return False
    least = _MIN_CONTINUED_TINY if facts.model_name == "tiny" else _MIN_CONTINUED
    return not facts.model_name or plain.score >= least


CHECKS: Final = (
    Check("probe.load", check_load),
    Check("probe.loop", check_loop),
    Check("probe.logits", check_logits),
    Check("probe.entropy", check_entropy),
    Check("probe.tokens", check_tokens),
    Check("probe.answers", check_answers),
    Check("probe.configs", check_configs),
    Check("probe.formats", check_formats),
)

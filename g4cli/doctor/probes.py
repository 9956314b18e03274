"""What did llama.cpp do with the file: did it load, did it talk, did it fall into a loop at once?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from g4cli.doctor.child import GreedyRun
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

if TYPE_CHECKING:
    from g4cli.doctor.facts import FileFacts

# A prompt whose answer repeats from its first tokens on: at least this many copies of at most this period.
_COPIES: Final = 6
_PERIOD: Final = 8
_LATE_START: Final = 4
_ELSEWHERE: Final = "get another file (g4 pull MODEL), then g4 doctor that one"


@dataclass(frozen=True, slots=True)
class EarlyLoop:
    """A run that is periodic from token `start` on."""

    period: int
    start: int
    text: str


def early_loop(run: GreedyRun) -> EarlyLoop | None:
    """Return the loop that the run consists of, if it starts within the first tokens and lasts to the end."""
    tokens = run.tokens
    for start in range(_LATE_START + 1):
        for period in range(1, _PERIOD + 1):
            body = tokens[start:]
            if len(body) >= _COPIES * period and all(
                body[i] == body[i - period] for i in range(period, len(body))
            ):
                share = run.text[: max(1, round(len(run.text) * period / max(1, len(body))))]
                return EarlyLoop(period, start, share)
    return None


def check_loads(facts: FileFacts) -> Outcome:
    """Say whether llama.cpp took the file, and if it died, of what."""
    probe = facts.probe
    if probe is None:
        return skipped(facts.probe_skipped or "not tried", "g4 doctor FILE --deep")
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
        return fail(f"llama.cpp refuses the file: {probe.error}", _ELSEWHERE, cause="conversion-defect",
                    confidence="high")  # fmt: skip
    return ok(f"llama.cpp loads it and answers {len(probe.runs)} prompts")


def check_loop(facts: FileFacts) -> Outcome:
    """A loop from the first token on every prompt is the file's or the engine's, never the model's."""
    probe = facts.probe
    if probe is None or not probe.runs:
        return skipped("no answers to look at")
    loops = [loop for run in probe.runs if (loop := early_loop(run))]
    if not loops:
        return ok(f"{len(probe.runs)} greedy answers, none of them a loop")
    first = loops[0]
    text = (
        f"{len(loops)} of {len(probe.runs)} greedy answers are a loop of {first.period} token"
        f"{'s' if first.period > 1 else ''} from token "
        f"{first.start + 1} on: {first.text!r}"
    )
    if facts.untrained:
        return warn(f"{text}; the weights are random, so this means nothing")
    if len(loops) < len(probe.runs):
        return warn(text)
    return fail(text + "; a sound Gemma 4 never does this", _ELSEWHERE, cause="conversion-defect",
                confidence="medium")  # fmt: skip


def check_logits(facts: FileFacts) -> Outcome:
    """Judge the range of the logits: NaN, all equal, pinned at the softcap."""
    probe = facts.probe
    if probe is None or not probe.runs:
        return skipped("no answers to look at")
    non_finite = sum(run.non_finite for run in probe.runs)
    if non_finite:
        return fail(f"{non_finite:,} logits are NaN or infinite", _ELSEWHERE, cause="conversion-defect",
                    confidence="medium")  # fmt: skip
    spread = max(run.highest - run.lowest for run in probe.runs)
    if spread < 1e-3:
        return fail("all logits are equal: the embeddings or the output are zero", _ELSEWHERE,
                    cause="conversion-defect", confidence="high")  # fmt: skip
    pinned = max(run.saturated for run in probe.runs)
    if pinned > 0.01:
        return fail(f"{pinned:.0%} of the logits are pinned at the softcap of 30", _ELSEWHERE,
                    cause="conversion-defect", confidence="medium")  # fmt: skip
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
    scores = [_agreement(run, want) for run, want in zip(probe.runs, facts.expected, strict=False)]
    share = sum(scores) / len(scores)
    first = probe.runs[0]
    text = f"{share:.0%} of the expected answers; asked {first.prompt!r}, it says {_shown(first)!r}"
    if share < _RIGHT[facts.model_name == "tiny"]:
        return fail(text, _ELSEWHERE, cause="conversion-defect", confidence="medium")
    return ok(f"{share:.0%} of the expected answers")


# Share of right answers below which a network is broken: words of three answers; characters of many.
_RIGHT: Final = {False: 0.01, True: 0.8}


def _agreement(run: GreedyRun, want: str) -> float:
    """Return 1 if a short key is in the answer, else the share of characters before the first difference."""
    if len(want) <= 8:
        return float(want in run.text.lower())
    got = run.text.strip()
    n = min(len(want), max(len(got), 1))
    same = next((i for i in range(n) if i >= len(got) or got[i] != want[i]), n)
    return same / n


def _shown(run: GreedyRun) -> str:
    return run.text if len(run.text) <= 60 else run.text[:57] + "..."


def check_tokens(facts: FileFacts) -> Outcome:
    """A top token that is no text (padding, unused, an image) is the mark of a numeric fault."""
    probe = facts.probe
    if probe is None or not probe.runs or facts.untrained:
        return skipped("no answers to look at")
    tokens = [t for run in probe.runs for t in run.tokens]
    foreign = [
        t for t in tokens if t in (0, 3, 4) or 6 <= t <= 45 or 53 <= t <= 97 or 258_880 <= t <= 258_884
    ]
    if tokens and len(foreign) * 4 > len(tokens):
        return fail(
            f"{len(foreign)} of {len(tokens)} tokens are padding, unused or image tokens: a numeric fault",
            "g4 doctor FILE --deep (compares ways to run it)", cause="runtime", confidence="medium",
        )  # fmt: skip
    return ok("the answers consist of text")


def check_variants(facts: FileFacts) -> Outcome:
    """Where another way to run the same file answers otherwise, the engine is at fault."""
    if not facts.variants:
        return skipped("only with --deep, or when an answer is wrong")
    bad = [v for v in facts.variants if v.failed or v.same < min(8, v.of)]
    ways = ", ".join(v.name for v in facts.variants)
    if bad:
        first = bad[0]
        how = first.failed or f"the answers part at token {first.same + 1}"
        return fail(
            f"with {first.name} {how}: the engine computes one of the two wrongly",
            "g4 doctor; then report it",
            cause="runtime",
            confidence="high",
            detail=tuple(v.name for v in bad),
        )
    return ok(f"the same answer with {ways}: not the engine's fault")


def is_suspicious(facts: FileFacts) -> bool:
    """Return whether one of the cheap probes failed, so that other ways to run the file are worth a try."""
    return any(c(facts).status == "fail" for c in (check_loop, check_logits, check_tokens, check_answers))


CHECKS: Final = (
    Check("probe.load", check_loads),
    Check("probe.loop", check_loop),
    Check("probe.logits", check_logits),
    Check("probe.tokens", check_tokens),
    Check("probe.answers", check_answers),
    Check("probe.variants", check_variants),
)

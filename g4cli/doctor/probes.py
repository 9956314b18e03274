"""What did llama.cpp do with the file: did it load, did it talk, did it fall into a loop at once?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from g4cli.doctor.child import GreedyRun
from g4cli.doctor.facts import FileFacts
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

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
        return skipped("not tried")
    if probe.died:
        return fail(
            f"llama.cpp died on this file ({probe.died})",
            "g4 doctor (checks this machine), then another file of the same model",
            cause="runtime",
            confidence="medium",
        )
    if probe.exit_code:
        return fail(f"llama.cpp refuses the file: {probe.error}", _ELSEWHERE, cause="conversion-defect")
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
    if len(loops) < len(probe.runs):
        return warn(text)
    return fail(
        text + "; a sound Gemma 4 never does this", _ELSEWHERE, cause="conversion-defect", confidence="medium"
    )


def check_logits(facts: FileFacts) -> Outcome:
    """Judge the range of the logits: NaN, all equal, pinned at the softcap."""
    probe = facts.probe
    if probe is None or not probe.runs:
        return skipped("no answers to look at")
    non_finite = sum(run.non_finite for run in probe.runs)
    if non_finite:
        return fail(f"{non_finite:,} logits are NaN or infinite", _ELSEWHERE, cause="file-damaged",
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


CHECKS: Final = (
    Check("probe.load", check_loads),
    Check("probe.loop", check_loop),
    Check("probe.logits", check_logits),
)

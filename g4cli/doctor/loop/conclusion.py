"""What follows from the experiments: the smallest set of conditions that makes the loop, its cause.

A condition is a value of one factor; for the length of the context, a least length. A set of
conditions explains the experiments if every answer that was given under all of them is bad, and no
other answer is. Where several causes act at once no set explains all; then one is enough that holds
for at least half of the bad answers and for no good one. With less, as when a small network leaves
its loop with any change, a set would say more about the few experiments than about the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final

from g4cli.core.units import count_text
from g4cli.doctor.known_faults import KnownFault, find_fault, match_faults
from g4cli.doctor.loop.outcome import LoopResult
from g4cli.doctor.loop.settings import (
    DEFAULTS,
    FACTORS,
    LoopSettings,
    describe_value,
    find_condition,
)

# A choice: no known fault needs more than two conditions.
_MAX_CONDITIONS: Final = 3
# Of the bad answers, how many a set of conditions has to explain: a choice, for two causes at once.
_LEAST_SHARE: Final = 0.5
_MAX_CAUSES: Final = 3


@dataclass(frozen=True, slots=True)
class LoopCondition:
    """A value of a factor, or with `at_least` the least value, without which there is no loop."""

    factor: str
    value: Any
    at_least: bool = False

    @property
    def text(self) -> str:
        """The condition in words: "1,200 tokens of context or more"."""
        return describe_value(self.factor, self.value) + (" or more" if self.at_least else "")

    def holds(self, settings: LoopSettings) -> bool:
        """Return whether an experiment with these settings meets the condition."""
        value = getattr(settings, self.factor)
        return bool(value >= self.value if self.at_least else value == self.value)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Whether there is a loop, under which conditions, and the known faults that fit, best first.

    `conditions` (): it loops in every experiment that was run, or in none. None: no set of
    conditions explains the experiments. `n_run` experiments gave an answer; there was no time for
    `n_not_run` others.
    """

    loops: bool
    conditions: tuple[LoopCondition, ...] | None
    causes: tuple[KnownFault, ...]
    n_run: int
    n_not_run: int

    @property
    def text(self) -> str:
        """The conclusion as a sentence."""
        if not self.n_run:
            return "no experiment gave an answer"
        if self.n_not_run and self.conditions == ():
            run = count_text(self.n_run, "experiment", "were", of=self.n_run + self.n_not_run)
            found = "the model repeats itself in all of them" if self.loops else "none shows a loop"
            return f"{run} run, and {found}"
        if not self.loops:
            return "no experiment makes the model repeat itself"
        if self.conditions is None:
            return "it repeats itself in some experiments, and no few conditions explain which"
        if not self.conditions:
            return "it repeats itself in every experiment: the file or all of llama.cpp is at fault"
        return f"it repeats itself with {join_words([c.text for c in self.conditions])}"


def join_words(words: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def draw_conclusion(results: Sequence[LoopResult], n_left: int = 0) -> Conclusion:
    """Return what follows from the experiments; `n_left` more could not be run."""
    run = [result for result in results if result.was_run]
    bad = [result for result in run if result.is_bad]
    n_not_run = n_left + sum(result.outcome == "skipped" for result in results)
    if not bad:
        return Conclusion(False, (), (), len(run), n_not_run)
    conditions = find_conditions(run)
    if conditions is None:
        return Conclusion(True, None, _explain_chance(run), len(run), n_not_run)
    symptoms = [str(result.outcome) for result in bad]  # "loop" and "garbage"
    if any(result.repetition for result in bad):  # garbage may repeat itself too
        symptoms.append("loop")
    names = [name for c in conditions if (name := find_condition(c.factor, c.value))]
    device = next((c.value for c in conditions if c.factor == "device"), "")
    # Conditions without a name in the table, such as the absence of tools, leave no cause, and that
    # every experiment loops means nothing before those are run that may end the loop.
    causes: list[KnownFault] = []
    if names or not (conditions or n_not_run):
        causes = [fault for symptom in symptoms for fault in match_faults(names, symptom, device)]
    best = tuple(dict.fromkeys(causes))[:_MAX_CAUSES]
    return Conclusion(True, conditions, best, len(run), n_not_run)


def _explain_chance(results: Sequence[LoopResult]) -> tuple[KnownFault, ...]:
    """Return the fault of greedy decoding, if all bad answers are greedy and a sampled one is good.

    A small network that is near a loop leaves it with any change of its prompt.
    """
    is_greedy = all(not result.settings.sampled for result in results if result.is_bad)
    sampled_well = any(r.settings.sampled and not r.is_bad for r in results)
    return (find_fault("greedy-collapse"),) if is_greedy and sampled_well else ()


def find_conditions(results: Sequence[LoopResult]) -> tuple[LoopCondition, ...] | None:
    """Return the smallest set of conditions that bad answers share and no good answer meets.

    Of sets of one size, the one that holds for most bad answers. None if there is none of at most
    three conditions that holds for half of them.
    """
    bad = [result.settings for result in results if result.is_bad]
    good = [result.settings for result in results if not result.is_bad]
    # A schema forbids most tokens: that it ends a loop tells nothing.
    good = [
        settings
        for settings in good
        if not (settings.schema and replace(settings, schema=False) in bad)
    ]
    # If the short question loops, the conditions are among those that it meets itself.
    candidates = [LoopSettings()] if LoopSettings() in bad else bad
    for size in range(_MAX_CONDITIONS + 1):
        explained = {
            chosen: sum(all(c.holds(other) for c in chosen) for other in bad)
            for settings in candidates
            for chosen in combinations(_list_conditions(settings, good), size)
            if not any(all(c.holds(other) for c in chosen) for other in good)
        }
        best = max(explained, key=lambda chosen: explained[chosen], default=None)
        if best is not None and explained[best] >= _LEAST_SHARE * len(bad):
            return best
    return None


def _list_conditions(
    settings: LoopSettings, good: Iterable[LoopSettings]
) -> tuple[LoopCondition, ...]:
    """Return the conditions that an experiment meets and that some good answer does not."""
    found = []
    for factor in FACTORS:
        value = getattr(settings, factor)
        if all(getattr(other, factor) == value for other in good):
            continue
        is_length = factor == "n_context" and value != DEFAULTS[factor]
        found += [LoopCondition(factor, value, at_least=True)] if is_length else []
        found.append(LoopCondition(factor, value))
    return tuple(found)

"""Which experiments are still to be run, and in which order.

Theory. What tells most and costs least comes first: a short question, then the same with one thing
of the prompt changed, in the same process; then longer contexts; then the configurations of
llama.cpp, each of which loads the file anew.

* The short question loops: each change of one factor is tried, to find those that end it. Longer
  contexts could not tell more.
* It does not, and one change makes a loop: that change is a condition by itself. What remains is
  not run, since it would tell nothing about this loop.
* A longer context makes a loop: all factors are changed at that length, to find those that end it.
* Nothing loops: combinations that bug reports of llama.cpp name are tried, a quantized KV cache and
  a JSON schema or tools at 1,200 and 4,000 tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from g4cli.doctor.loop.outcome import LoopResult
from g4cli.doctor.loop.settings import CONTEXTS, DEFAULTS, LoopSettings


@dataclass(frozen=True, slots=True)
class LoopChoices:
    """What can be varied with a file on a machine.

    `most_context`: the longest text before the question, in tokens. `has_bos`: the vocabulary has a
    BOS token. `thinks`, `takes_tools`: the prompt format knows them. `other_format`: there is
    another prompt format to compare with. `gpus`: ggml's names.
    """

    most_context: int = CONTEXTS[-1]
    has_bos: bool = True
    thinks: bool = True
    takes_tools: bool = True
    other_format: bool = True
    gpus: tuple[str, ...] = ()

    @property
    def contexts(self) -> tuple[int, ...]:
        """The lengths of context that are possible."""
        return tuple(n for n in CONTEXTS if n <= self.most_context)


def propose_experiments(
    done: Sequence[LoopResult], choices: LoopChoices
) -> tuple[LoopSettings, ...]:
    """Return the experiments that are still worth running after `done`, in their order."""
    settings_done = {result.settings for result in done}
    bad = [result.settings for result in done if result.is_bad]
    first = LoopSettings()
    plan: Iterable[LoopSettings]
    if first in bad:
        plan = chain(_change_prompt(first, choices), _change_engine(first, choices))
    elif single := [settings for settings in bad if len(settings.list_changes()) == 1]:
        base = single[0]
        changes = _change_prompt(base, choices), _change_engine(base, choices)
        plan = chain(*changes) if base.n_context else ()
    elif bad:
        # More than one factor: without each of them in turn.
        plan = (replace(bad[0], **{name: DEFAULTS[name]}) for name, _ in bad[0].list_changes())
    else:
        plan = chain(
            [first],
            _change_prompt(first, choices),
            [replace(first, n_context=n) for n in choices.contexts[:2]],
            _change_engine(first, choices),
            _combine(choices),
        )
    return tuple(dict.fromkeys(settings for settings in plan if settings not in settings_done))


def _change_prompt(base: LoopSettings, choices: LoopChoices) -> Iterable[LoopSettings]:
    """Yield `base` with one thing of the prompt or the sampling changed; all in one process."""
    yield replace(base, sampled=True)
    if choices.has_bos:
        yield replace(base, bos=False)
    if choices.other_format:
        yield replace(base, own_format=False)
    if choices.thinks:
        yield replace(base, thinking=True)
    if choices.takes_tools:
        yield replace(base, tools=True)
    yield replace(base, schema=True)


def _change_engine(base: LoopSettings, choices: LoopChoices) -> Iterable[LoopSettings]:
    """Yield `base` with another configuration of llama.cpp."""
    for gpu in choices.gpus:
        yield replace(base, device=gpu)
        if not base.n_context:
            yield from (replace(base, device=gpu, n_context=n) for n in choices.contexts)
    yield replace(base, flash_attention=False)
    yield replace(base, kv_type="q8_0")
    yield replace(base, kv_type="q4_0")
    yield replace(base, kv_type="q4_0", rotation=False)
    yield replace(base, n_ubatch=32)
    yield replace(base, drafting=True)


def _combine(choices: LoopChoices) -> Iterable[LoopSettings]:
    """Yield combinations that bug reports name; those that one process can run come together."""
    long = choices.contexts[1:]  # those beyond the sliding window
    for n in long:
        yield LoopSettings(n_context=n)
        yield LoopSettings(n_context=n, schema=True)
        if choices.takes_tools:
            yield LoopSettings(n_context=n, tools=True)
    for changed in (
        LoopSettings(kv_type="q4_0"),
        LoopSettings(kv_type="q4_0", rotation=False),
        LoopSettings(kv_type="q8_0"),
    ):
        yield from (replace(changed, n_context=n) for n in long)

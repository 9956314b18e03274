"""A slot: one sequence of the context and the turn that it carries out at the moment."""

from __future__ import annotations

import time
from typing import Final

from g4cli.chat import Answer, DraftStats, Evaluated, Finished, PromptRead, TurnEvent
from g4cli.runtime.engine.batch import Batch
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.grammar import GrammarSampler
from g4cli.runtime.engine.masks import MaskProcess
from g4cli.runtime.engine.messages import RunTurn
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.sampler import Sampler
from g4cli.runtime.engine.sequence import Sequence

# Sequences between two whose answers go on that are filled at most. A token more costs a quarter of
# a reading of the weights (tests/bench/bench_draft.py).
MAX_FILLERS: Final = 3


class Turn:
    """A turn in a slot: it reads its prompt, then answers, one token a batch."""

    def __init__(
        self, number: int, request: RunTurn, model: Model, slot: Slot, masks: MaskProcess
    ) -> None:
        """Build its sampler, and keep what the slot's sequence already holds of its prompt.

        `number`: of the request. `masks`: for its grammar, if it has one.
        """
        self.number, self.prompt = number, request.prompt
        self.is_greedy = request.sampling.temp <= 0
        self.drafted: DraftStats | None = None  # None: nothing was drafted for it
        self._sampler = _make_sampler(model, request, masks)
        self.answer = Answer(model, request.options)
        self._model, self.slot, self.sequence = model, slot, slot.sequence
        self._started = time.perf_counter()
        self._answer_started: float | None = None
        self._reused = self.sequence.reuse_prefix(self.prompt).n_tokens
        self.next_tokens: tuple[int, ...] = ()  # sampled, and certain to follow
        self.row: int | None = None  # of its logits in the last batch; None: it asked for none

    @property
    def is_reading(self) -> bool:
        """Return whether the prompt is not evaluated yet."""
        return self._answer_started is None

    @property
    def n_unread(self) -> int:
        """Return how many tokens of the prompt are not evaluated yet."""
        return len(self.prompt) - len(self.sequence.tokens) if self.is_reading else 0

    @property
    def is_ready(self) -> bool:
        """Return whether the first token can be sampled: its grammar, if any, is compiled."""
        return isinstance(self._sampler, Sampler) or self._sampler.is_ready

    @property
    def can_read(self) -> bool:
        """Return whether a token of the prompt can be evaluated: not the last before `is_ready`."""
        return self.n_unread > 1 or self.is_ready

    @property
    def next_run(self) -> int | None:
        """Return the first number of the run that is to be evaluated next, None if it is text."""
        if not self.n_unread:
            return None
        token = self.prompt[len(self.sequence.tokens)]
        return token if token < 0 else None

    def add_tokens(self, batch: Batch, tokens: tuple[int, ...], *, with_logits: bool) -> None:
        """Append the next tokens to `batch`; `row` is the last one's, if its logits are wanted."""
        held, number = self.sequence.tokens, self.sequence.number
        row = batch.add_tokens(tokens, len(held), number, with_logits=with_logits)
        self.row = row if with_logits else None
        held += tokens

    def end_prompt(self) -> PromptRead:
        """Note that the prompt is evaluated; return the event that says so."""
        self.sequence.mark_prompt_end()
        self._answer_started = time.perf_counter()
        seconds = self._answer_started - self._started
        return PromptRead(len(self.prompt), self._reused, seconds, self.sequence.number)

    def sample_token(self, context: Context, *, may_take_certain: bool) -> list[TurnEvent]:
        """Sample the next token from the logits of `row`; return its events.

        `may_take_certain`: whether the tokens that are certain to follow it may come along.
        """
        assert self.row is not None
        context.row = self.row
        answer = self.answer
        token = answer.take_forced()
        if token is None:
            token = self._sampler.sample_token(context)
        else:
            self._sampler.accept_token(token)
        sampled = None
        if answer.n_probs is not None:
            from g4cli.runtime.engine.probabilities import read_probabilities

            sampled = read_probabilities(context, self._model, token, answer.n_probs)
        room = context.n_ctx - len(self.sequence.tokens)
        read = self._sampler.read_probability
        probability = read(context, token) if answer.wants_probability else None
        events: list[TurnEvent] = [
            *answer.add_token(token, sampled, has_room=room > 0, probability=probability)
        ]
        self.next_tokens = (token,)
        takes_certain = may_take_certain and not answer.finish
        for follower in self._sampler.take_certain_tokens() if takes_certain else ():
            events += answer.add_token(follower, has_room=room > len(self.next_tokens))
            self.next_tokens += (follower,)
            if answer.finish:
                break
        return events

    def end(self) -> list[TurnEvent]:
        """Free the sampler; return the last events. The answer's `finish` must be set."""
        self.close()
        last_events = self.answer.end()
        now = time.perf_counter()
        answer_started = self._answer_started or now
        evaluated = len(self.prompt) - self._reused - self.n_unread
        reply = self.answer.make_reply(
            len(self.prompt),
            Evaluated(self._reused, max(0, evaluated), complete=not self.is_reading),
            answer_started - self._started,
            now - answer_started,
        )
        return [*last_events, Finished(reply, len(self.sequence.tokens), self.drafted)]

    def close(self) -> None:
        """Free the sampler."""
        self._sampler.close()


def _make_sampler(model: Model, request: RunTurn, masks: MaskProcess) -> Sampler | GrammarSampler:
    if request.grammar is None:
        sampler = Sampler(model, request.sampling)
        sampler.find_candidates_first()
        return sampler
    return GrammarSampler(
        model,
        request.sampling,
        masks,
        request.grammar,
        request.grammar_scope,
        keep_logits=request.options.n_probs is not None,
    )


class Slot:
    """One sequence, and the turn in it, if any."""

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.turn: Turn | None = None
        self.used_at = 0  # the number of the turn that used it last


def choose_slot(slots: list[Slot], prompt: tuple[int, ...]) -> Slot:
    """Return the free slot that holds most of a prompt, else the least recently used one.

    One of `slots` must be free.

    A slot that shares only the beginning that all prompts share would lose the rest of what it
    holds: it counts only if the shared part is half of the prompt, or half of what it holds.

    Turns of sequences that do not follow each other need fillers in their batches or, if too many
    idle ones are between them, batches of their own (see `scheduler`), which would cost every
    token of every answer. So a slot that is too far away from the running ones is taken last, even
    before others have to forget what they hold; then come empty ones, then those that need the
    fewest fillers.
    """
    running = [slot.sequence.number for slot in slots if slot.turn]

    def rate(slot: Slot) -> tuple[int, bool, bool, int, int]:
        sequence = slot.sequence
        is_empty = not sequence.tokens
        n_between = min((abs(sequence.number - number) - 1 for number in running), default=0)
        together = (*running, sequence.number)
        n_idle = max(together) - min(together) + 1 - len(together)  # between the first and last
        reusable = sequence.count_reusable(prompt)
        if 2 * reusable < min(len(prompt), len(sequence.tokens)):
            reusable = 0
        # The criteria, the most important one first.
        return reusable, n_between <= MAX_FILLERS, is_empty, -n_idle, -slot.used_at

    return max((slot for slot in slots if not slot.turn), key=rate)


def choose_turns(ready: list[Turn], *, prompts_first: bool) -> list[Turn]:
    """Return those of `ready` whose tokens the next batch holds: all read prompts, or all answer.

    `prompts_first`: where some read and some answer, the batch is for those that read.
    """
    reading = [turn for turn in ready if turn.is_reading]
    answering = [turn for turn in ready if not turn.is_reading]
    if not (reading and answering):
        return ready
    # A prompt whose last token waits for its grammar must not make the answers wait.
    can_read = any(turn.can_read for turn in reading)
    return reading if prompts_first and can_read else answering

"""Many turns at once in one context: continuous batching.

Decoding is bound by memory: a batch that computes one token of each of four answers reads every
weight once, like a batch that computes one token alone. So all running answers advance together,
one token each a batch. Whoever finishes leaves the batch, and whoever comes joins the next one.

A prompt is evaluated in pieces. Between two of them every running answer gets a token, so that a
long prompt slows the others down and never stops them. How long a piece and a token take is the
longest pause that a reader sees: `PromptPacer` measures how fast prompts are evaluated here and
keeps pieces so small that one takes PAUSE_S. While nobody answers, a piece is as large as llama.cpp
evaluates at once. Several prompts share a piece in equal parts, so that a short one is not kept
waiting by a long one that came before it.

Pieces and tokens of answers do not share a batch. llama.cpp computes sequences together as far as
each has the same number of tokens: of a piece of 16 tokens one with those of the answers, and then
15 alone, which is as many readings of the weights, with fewer tokens than its kernels take.

llama.cpp computes sequences together only if their numbers follow each other (see `Batch`). Where
answers run in the sequences 0 and 2, each would read all weights for itself. So a token is put into
sequence 1 as well, which is idle or reads a prompt, and removed again: a filler costs a token more
in the batch instead of another reading of the weights.

A turn gets a slot, a sequence of its own, in the order in which turns came. Among the free slots it
gets the one whose tokens have the longest prefix in common with its prompt (`slot.choose_slot`);
that prefix is not evaluated again, as far as the sliding window allows it (`sequence`). Where a
prompt comes to an image or sound, its turn waits for the encoder, which works beside the batches of
the others; the result is evaluated by itself, each piece in one step.

Each message wakes up the process that holds the sockets, and its client. So tokens that come faster
than one in TOGETHER_S are sent together; first and last ones are never kept back.

While a single turn answers, its tokens may be drafted (`lone_drafting`).

Why there is another loop for a single conversation (`turn_queue`): a draft model reads the KV cache
of one sequence alone. The state of a turn is the same in both (`g4cli.chat.Answer`).
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from g4cli.runtime.engine.batch import Batch
from g4cli.runtime.engine.grammar import MAX_CERTAIN
from g4cli.runtime.engine.llama_engine import CHECKPOINT_BYTES, BaseEngine
from g4cli.runtime.engine.lone_drafting import LoneDrafting
from g4cli.runtime.engine.messages import RunTurn
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions
from g4cli.runtime.engine.prompt_pacer import PromptPacer
from g4cli.runtime.engine.sequence import Sequence
from g4cli.runtime.engine.service import Service
from g4cli.runtime.engine.slot import (
    MAX_FILLERS,
    Slot,
    Turn,
    choose_slot,
    choose_turns,
)

if TYPE_CHECKING:
    from g4cli.runtime.engine.drafting import Exactness
    from g4cli.runtime.engine.state_cache import StateCache

_FILLER: Final = 0  # any token will do
# Choices: how long a step waits while all turns wait for their grammars, or for the encoder;
# between two steps other requests are looked for.
_WAIT_S: Final = 0.01
_ENCODER_WAIT_S: Final = 0.02
TOGETHER_S: Final = 1 / 60  # nobody reads faster than a screen is drawn


class Scheduler(BaseEngine):
    """Carries out turns of several conversations, one batch a step."""

    def __init__(self, model: Model, options: ContextOptions, service: Service) -> None:
        """Make a context of `options.n_parallel` sequences. Raises what `Context` raises."""
        self._service = service
        self._waiting: deque[tuple[int, RunTurn]] = deque()
        self._n_started = 0
        self._filled: list[Sequence] = []  # sequences with a filler in this batch
        self._sent_at = 0.0  # when kept messages were sent, by time.perf_counter
        self._is_urgent = False  # what this step sends must not be kept back
        self._reads_next = False  # where prompts and answers take turns: a prompt's piece is next
        self._exactness: Exactness | None = None  # of drafting; None: nothing is drafted
        super().__init__(model, options, service.interrupt)

    def _make_context(self) -> None:
        super()._make_context()
        n_parallel = self._options.n_parallel
        share = CHECKPOINT_BYTES // n_parallel
        self._slots = [
            Slot(Sequence(self.context, self.prompts, number=number, checkpoint_bytes=share))
            for number in range(n_parallel)
        ]
        self._drafting: LoneDrafting | None = None
        if self._exactness is not None:
            self.draft_by_lookup(self._exactness)
        self.pacer = PromptPacer(self.context.n_ubatch)
        self._batch = Batch(self.context.n_batch, n_parallel)

    def draft_by_lookup(self, exactness: Exactness) -> None:
        """Draft tokens from now on while a single turn answers.

        The context needs `drafting.N_OUTPUTS` rows of logits.
        """
        self._exactness = exactness
        self._drafting = LoneDrafting(self.context, exactness, has_experts=self.model.has_experts)

    def use_states(self, cache: StateCache) -> None:
        """Save and restore states of prompts from now on."""
        self._states = cache
        for slot in self._slots:
            slot.sequence.use_states(cache)

    @property
    def has_work(self) -> bool:
        """Return whether a turn runs or waits."""
        return bool(self._waiting or self._running)

    @property
    def _running(self) -> list[Turn]:
        """Return the turns that have slots, in the order of their sequences."""
        return [slot.turn for slot in self._slots if slot.turn]

    def add_turn(self, number: int, request: RunTurn) -> None:
        """Append a turn to those that wait for a slot."""
        try:
            self.context.require_room(request.prompt)
        except Exception as err:
            self._fail_request(number, err)
        else:
            self._waiting.append((number, request))

    def run_step(self) -> None:
        """Give slots away, evaluate one batch, and sample a token of each answer in it."""
        self._service.hold_output()
        self._end_cancelled()
        self._fill_slots()
        running = self._running
        if any(turn.is_reading for turn in running):
            self._send_kept()  # a prompt takes longer than a token
            self._service.hold_output()
        if running:
            self._evaluate(running)
        if self._is_urgent or time.perf_counter() - self._sent_at >= TOGETHER_S:
            self._send_kept()
        for slot in self._slots:
            if slot.sequence.save_turn() and self._drafting is not None:
                self._drafting.note_moved_cells()

    def _send_kept(self) -> None:
        """Send what was kept back until now."""
        self._service.flush_output()
        self._sent_at, self._is_urgent = time.perf_counter(), False

    def _evaluate(self, running: list[Turn]) -> None:
        ready = running
        if self.prompts.media is not None:
            ready = [turn for turn in running if self._prepare_run(turn)]
            if not ready:
                if self._running:  # none, if the encoder failed for all of them
                    self.prompts.require_media().wait(_ENCODER_WAIT_S)
                return
            self._evaluate_run(ready)
            ready = [turn for turn in ready if turn.slot.turn and turn.next_run is None]
            if not ready:
                return
        try:
            if self._drafting is not None and len(self._running) == 1 and not ready[0].is_reading:
                self._evaluate_alone(self._drafting, ready[0])
            else:
                self._stop_drafting()
                ready = [turn for turn in ready if turn.slot.turn]
                if not ready:
                    return
                ready = choose_turns(ready, prompts_first=self._reads_next)
                self._reads_next = not ready[0].is_reading
                self._evaluate_batch(ready)
        except Exception as err:
            for turn in ready:
                turn.sequence.truncate(0)  # what it holds now is unknown
                self._fail_turn(turn, err)

    def _end_cancelled(self) -> None:
        """End the turns that nobody reads any more; their slots are free for the next batch."""
        for turn in self._running:
            if self._service.is_cancelled(turn.number):
                if turn.next_run is not None:
                    self.prompts.require_media().abandon_run(turn.next_run)
                turn.answer.finish = "interrupted"
                try:
                    self._end_turn(turn, [])
                except Exception as err:
                    self._fail_turn(turn, err)
        for waiting in [w for w in self._waiting if self._service.is_cancelled(w[0])]:
            self._is_urgent = True
            self._waiting.remove(waiting)
            self._service.finish_request(waiting[0])

    def _fill_slots(self) -> None:
        while self._waiting and any(slot.turn is None for slot in self._slots):
            number, request = self._waiting.popleft()
            self._n_started += 1
            self._service.begin_request(number)
            try:
                slot = choose_slot(self._slots, request.prompt)
                slot.used_at = self._n_started
                slot.turn = Turn(number, request, self.model, slot, self.masks)
            except Exception as err:
                self._fail_request(number, err)

    def _prepare_run(self, turn: Turn) -> bool:
        """Return whether a turn can go on; False while the image or sound that comes is encoded."""
        if turn.next_run is None:
            return True
        try:
            return self.prompts.require_media().prepare_run(turn.next_run)
        except Exception as err:
            self._fail_turn(turn, err)
            return False

    def _evaluate_run(self, ready: list[Turn]) -> None:
        """Evaluate an image or sound that a prompt has come to, if one has."""
        for turn in ready:
            if turn.next_run is not None:
                try:
                    self._decode_run(turn, turn.next_run)
                except Exception as err:
                    turn.sequence.truncate(0)  # what it holds now is unknown
                    self._fail_turn(turn, err)
                return

    def _decode_run(self, turn: Turn, token: int) -> None:
        media, sequence = self.prompts.require_media(), turn.sequence
        position, count = len(sequence.tokens), media.count_run_tokens(token)
        if media.decode(self.context, token, position, sequence.number):
            sequence.tokens += turn.prompt[position : position + count]
        else:
            sequence.truncate_unfinished(turn.prompt)

    def _evaluate_alone(self, drafting: LoneDrafting, turn: Turn) -> None:
        if drafting.advance(turn):
            self._continue_answer(turn)
        else:
            turn.sequence.truncate_unfinished(turn.sequence.tokens)

    def _evaluate_batch(self, running: list[Turn]) -> None:
        n_prompt_tokens = self._fill_batch(running)
        if not self._batch.n_tokens:  # all of them wait for their grammars
            self.masks.read_replies(_WAIT_S)
            return
        started = time.perf_counter()
        try:
            done = self.context.decode_batch(self._batch.c_batch)
        finally:
            for sequence in self._filled:
                sequence.truncate(len(sequence.tokens))
        if not done:
            for turn in running:
                turn.sequence.truncate_unfinished(turn.sequence.tokens)
            return  # interrupted, since all of them are cancelled
        self.pacer.record_batch(n_prompt_tokens, time.perf_counter() - started)
        if n_prompt_tokens:
            running[0].sequence.record_reading(n_prompt_tokens, started)
            for turn in running:
                turn.sequence.save_border()
        for turn in running:
            if turn.row is not None:
                self._continue_answer(turn)

    def _fill_batch(self, turns: list[Turn]) -> int:
        """Fill the batch; return how many tokens of prompts are in it: all or none."""
        self._batch.clear()
        self._filled = []
        if turns[0].is_reading:
            self._add_prompts(turns)
            return self._batch.n_tokens
        last = turns[0].sequence.number
        for turn in turns:
            assert turn.next_tokens
            self._fill_gap(last, turn.sequence.number)
            last = turn.sequence.number
            turn.add_tokens(self._batch, turn.next_tokens, with_logits=True)
        return 0

    def _add_prompts(self, turns: list[Turn]) -> None:
        others_answer = any(not turn.is_reading for turn in self._running)
        room = min(self.pacer.count_tokens(others_answer=others_answer), self.context.n_batch)
        for n_before, turn in enumerate(turns):
            position = len(turn.sequence.tokens)
            share = max(1, (room - self._batch.n_tokens) // (len(turns) - n_before))
            share = turn.sequence.limit_batch(position, share)
            count = self.prompts.count_next_batch(turn.prompt, position, share)
            is_last = position + count == len(turn.prompt)
            if is_last and not turn.is_ready:  # logits are not kept until its grammar is ready
                count, is_last = count - 1, False
            turn.row = None
            if count:
                tokens = turn.prompt[position : position + count]
                turn.add_tokens(self._batch, tokens, with_logits=is_last)

    def _fill_gap(self, last: int, number: int) -> None:
        """Put a token into each sequence between two whose answers go on; `_filled` lists them."""
        between = [slot.sequence for slot in self._slots[last + 1 : number]]
        if len(between) > MAX_FILLERS:
            return
        if any(len(sequence.tokens) >= self.context.n_ctx for sequence in between):
            return  # there is no room for a filler
        for sequence in between:
            position = len(sequence.tokens)
            self._batch.add_tokens((_FILLER,), position, sequence.number, with_logits=False)
        self._filled += between

    def _continue_answer(self, turn: Turn) -> None:
        try:
            self._send_next_token(turn)
        except Exception as err:  # such as a grammar that allows no token: the others go on
            self._fail_turn(turn, err)

    def _send_next_token(self, turn: Turn) -> None:
        events: list[Any] = []
        if turn.is_reading:
            events.append(turn.end_prompt())
            self._is_urgent = True
        # Beside other answers, tokens that one of them has more than the others cost a reading of
        # the weights of their own.
        is_alone = len(self._running) == 1
        may_take = is_alone and self._drafting is None and self.context.n_batch > MAX_CERTAIN
        events += turn.sample_token(self.context, may_take_certain=may_take)
        if turn.answer.finish:
            self._end_turn(turn, events)
        else:
            self._service.send_to(turn.number, *events)

    def _end_turn(self, turn: Turn, events: list[Any]) -> None:
        self._free_slot(turn)
        turn.sequence.mark_unsaved()
        self._service.send_to(turn.number, *events, *turn.end())
        self._service.finish_request(turn.number)

    def _fail_turn(self, turn: Turn, err: Exception) -> None:
        self._free_slot(turn)
        turn.close()
        self._fail_request(turn.number, err)

    def _fail_request(self, number: int, err: Exception) -> None:
        self._is_urgent = True
        self._service.fail_request(err, number)

    def _free_slot(self, turn: Turn) -> None:
        turn.slot.turn = None
        self._is_urgent = True
        self._stop_drafting()

    def _stop_drafting(self) -> None:
        """Remove the drafts that are not accepted; a turn that keeps them fails, if it goes on."""
        if self._drafting is None:
            return
        drafted = self._drafting.turn
        try:
            self._drafting.stop()
        except Exception as err:
            assert drafted is not None
            drafted.sequence.truncate(0)  # what it holds now is unknown
            if drafted.slot.turn is drafted:
                self._fail_turn(drafted, err)

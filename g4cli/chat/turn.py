"""One turn of a conversation: a prompt goes in, events come out.

It prints nothing and knows no llama.cpp. The worker process runs turns with it where a model
answers one request at a time; the scheduler drives many `Answer`s itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from g4cli.chat.answer import Answer, Vocabulary
from g4cli.chat.events import DraftStats, Evaluated, Finished, PromptRead, TurnEvent, TurnOptions
from g4cli.core.progress import Progress, no_progress
from g4cli.prompt.reply import SampledToken


class Engine(Protocol):
    """What a turn needs from a model, in the order in which it is used.

    `evaluate` makes the context hold a prompt, `sample` chooses the next token,
    `take_certain_tokens` returns tokens that must follow it because the grammar allows nothing
    else, `read_probability` and `read_probabilities` tell what the model thought of it, and
    `advance` evaluates it with those that are certain (False: interrupted). `continue_without`
    makes the context hold a prompt and what is kept of its answer, and bans a token as the next
    one. `n_past` tokens of `n_ctx` are in the context. `drafted`: see `Finished`.
    `g4cli.runtime.engine.llama_engine` has the real one, tests a fake.
    """

    @property
    def model(self) -> Vocabulary: ...
    @property
    def n_ctx(self) -> int: ...
    @property
    def n_past(self) -> int: ...
    @property
    def drafted(self) -> DraftStats | None: ...
    @property
    def interrupted(self) -> bool: ...
    def evaluate(self, tokens: Sequence[int], progress: Progress = no_progress) -> Evaluated: ...
    def sample(self) -> int: ...
    def take_certain_tokens(self) -> Sequence[int]: ...
    def read_probabilities(self, token: int, n_top: int) -> SampledToken: ...
    def read_probability(self, token: int) -> float | None: ...
    def continue_without(self, prompt: Sequence[int], kept: Sequence[int], banned: int) -> bool: ...
    def advance(self, token: int, *certain: int) -> bool: ...


def run_turn(
    engine: Engine,
    prompt: Sequence[int],
    options: TurnOptions,
    *,
    progress: Progress = no_progress,
) -> Iterator[TurnEvent]:
    """Yield PromptRead, the pieces of the answer as they come, and Finished.

    Raises ContextFull if the prompt does not fit; an answer that fills the context finishes with
    'length'.
    """
    started = time.perf_counter()
    read = engine.evaluate(prompt, progress)
    prompt_s = time.perf_counter() - started
    answer = Answer(engine.model, options)
    decode_s = 0.0
    if read.complete:
        yield PromptRead(len(prompt), read.reused, prompt_s)
        started = time.perf_counter()
        yield from _generate_answer(engine, answer)
        if answer.finish == "loop" and options.on_loop == "retry":
            answer, banned = answer.cut_back()
            yield answer.notice_retry()
            if engine.continue_without(prompt, answer.tokens, banned):
                yield from _generate_answer(engine, answer)
            else:
                answer.finish = "interrupted"
        decode_s = time.perf_counter() - started
    else:
        answer.finish = "interrupted"
    reply = answer.make_reply(len(prompt), read, prompt_s, decode_s)
    yield Finished(reply, engine.n_past, engine.drafted)


def _generate_answer(engine: Engine, answer: Answer) -> Iterator[TurnEvent]:
    """Yield the events of an answer, token by token, until something ends it."""
    while not answer.finish:
        if engine.interrupted:
            answer.finish = "interrupted"
            break
        token = answer.take_forced()
        if token is None:
            token = engine.sample()
        sampled = engine.read_probabilities(token, n) if (n := answer.n_probs) is not None else None
        probability = engine.read_probability(token) if answer.wants_probability else None
        room = engine.n_ctx - engine.n_past  # for this token and those that are certain after it
        yield from answer.add_token(token, sampled, has_room=room > 0, probability=probability)
        certain: list[int] = []
        yield from _add_certain_tokens(engine, answer, room, certain)
        if not answer.finish and not engine.advance(token, *certain):
            answer.finish = "interrupted"
    yield from answer.end()


def _add_certain_tokens(
    engine: Engine, answer: Answer, room: int, certain: list[int]
) -> Iterator[TurnEvent]:
    """Yield the events of the tokens that must follow, which are appended to `certain`.

    `room`: tokens that the context has left for the one that was sampled, and for these.
    """
    for follower in () if answer.finish else engine.take_certain_tokens():
        certain.append(follower)
        yield from answer.add_token(follower, has_room=room > len(certain))
        if answer.finish:
            return

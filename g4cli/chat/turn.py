"""One turn of a conversation: a prompt goes in, events come out. Prints nothing, knows no
llama.cpp.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

from g4cli.core.progress import Progress, no_progress
from g4cli.loops.detector import LoopDetector
from g4cli.prompt.messages import Message, ToolCall
from g4cli.prompt.reply import (
    MARKS,
    AnswerText,
    CallMade,
    ReplyEvent,
    ReplyParser,
    ThoughtText,
)

FinishReason: TypeAlias = Literal["stop", "length", "loop", "interrupted"]
_UNIT_TOKENS: Final = 64  # as much of a repeated stretch as a message shows


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What became of a prompt: tokens found in memory, tokens evaluated, and whether it was all of
    it.
    """

    reused: int
    evaluated: int
    complete: bool


class Engine(Protocol):
    """What a turn needs from a model; `g4cli.runtime.engine.llama_engine` has the real one, tests a
    fake.
    """

    @property
    def n_ctx(self) -> int: ...
    @property
    def n_past(self) -> int: ...
    @property
    def interrupted(self) -> bool: ...
    def evaluate(self, tokens: Sequence[int], progress: Progress = no_progress) -> Evaluated: ...
    def sample(self) -> int: ...
    def advance(self, token: int) -> bool: ...
    def piece(self, token: int) -> bytes: ...
    def is_end(self, token: int) -> bool: ...
    @property
    def digits(self) -> Mapping[int, int]: ...


class Decoder(Protocol):
    """Token bytes to text; see `g4cli.runtime.engine.text_decoder`."""

    def feed(self, data: bytes) -> str: ...
    def flush(self) -> str: ...


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """Limits of one answer. `max_tokens` 0: until the context is full. `thought_tokens` 0: no
    limit.
    """

    max_tokens: int = 0
    stop_on_loop: bool = True
    thought_tokens: int = 0


@dataclass(frozen=True, slots=True)
class FoundLoop:
    """A repetition: `unit` is the repeated text; counts in tokens, `onset` from the answer's first
    token.

    `kind` is the detector's: exact, noisy (with changes), counter (with a number that counts),
    few-tokens and few-phrases (in any order).
    """

    unit: str
    period: int
    onset: int
    covered: int
    kind: str = "exact"


@dataclass(frozen=True, slots=True)
class PromptRead:
    """The prompt is evaluated; the answer begins."""

    prompt_tokens: int
    reused: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer with its figures. Seconds are wall-clock time."""

    text: str
    thought: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    context_full: bool
    prompt_tokens: int
    reused_tokens: int
    evaluated_tokens: int
    completion_tokens: int
    prompt_s: float
    decode_s: float
    loop: FoundLoop | None
    tokens: tuple[int, ...]

    @classmethod
    def interrupted(cls) -> Reply:
        """Return the answer to a question that was stopped before the model saw it."""
        return cls("", "", (), "interrupted", False, 0, 0, 0, 0, 0.0, 0.0, None, ())

    @property
    def prompt_tps(self) -> float:
        """Return prompt tokens evaluated per second."""
        return self.evaluated_tokens / self.prompt_s if self.prompt_s > 0 else 0.0

    @property
    def decode_tps(self) -> float:
        """Return answer tokens per second."""
        return self.completion_tokens / self.decode_s if self.decode_s > 0 else 0.0

    def message(self) -> Message:
        """Return the turn to keep in the conversation; its exact tokens too, where history keeps
        the text.
        """
        exact = not self.thought and not self.tool_calls and self.text == self.text.strip()
        return Message(
            "assistant",
            self.text,
            thought=self.thought,
            tool_calls=self.tool_calls,
            tokens=self.tokens if exact else (),
        )


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a turn."""

    reply: Reply


TurnEvent: TypeAlias = PromptRead | ReplyEvent | Finished


@dataclass(slots=True)
class _Answer:
    """What accumulates while an answer streams."""

    tokens: list[int] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    thought_tokens: int = 0
    finish: FinishReason = "stop"
    context_full: bool = False
    loop: FoundLoop | None = None

    def add_events(self, events: Sequence[ReplyEvent]) -> None:
        for event in events:
            if isinstance(event, AnswerText):
                self.text.append(event.text)
            elif isinstance(event, ThoughtText):
                self.thought.append(event.text)
            elif isinstance(event, CallMade):
                self.calls.append(event.call)


def run_turn(
    engine: Engine,
    prompt: Sequence[int],
    options: TurnOptions,
    decoder: Decoder,
    *,
    close_thought: Sequence[int] = (),
    progress: Progress = no_progress,
) -> Iterator[TurnEvent]:
    """Yield PromptRead, the pieces of the answer as they come, and Finished.

    `close_thought` are the tokens that end the thinking channel, for `thought_tokens`. Raises
    ContextFull if the prompt does not fit; an answer that fills the context finishes with 'length'.
    """
    started = time.perf_counter()
    read = engine.evaluate(prompt, progress)
    prompt_s = time.perf_counter() - started
    answer = _Answer()
    if read.complete:
        yield PromptRead(len(prompt), read.reused, prompt_s)
        started = time.perf_counter()
        yield from _generate_answer(engine, options, decoder, answer, list(close_thought))
        decode_s = time.perf_counter() - started
    else:
        answer.finish, decode_s = "interrupted", 0.0
    yield Finished(
        Reply(
            text="".join(answer.text),
            thought="".join(answer.thought).strip(),
            tool_calls=tuple(answer.calls),
            finish_reason=answer.finish,
            context_full=answer.context_full,
            prompt_tokens=len(prompt),
            reused_tokens=read.reused,
            evaluated_tokens=read.evaluated,
            completion_tokens=len(answer.tokens),
            prompt_s=prompt_s,
            decode_s=decode_s,
            loop=answer.loop,
            tokens=tuple(answer.tokens),
        )
    )


def _generate_answer(
    engine: Engine,
    options: TurnOptions,
    decoder: Decoder,
    answer: _Answer,
    close_thought: list[int],
) -> Iterator[TurnEvent]:
    parser, detector = ReplyParser(), LoopDetector(_has_text(engine), engine.digits)
    forced: list[int] = []
    while True:
        if engine.interrupted:
            answer.finish = "interrupted"
            break
        token = forced.pop(0) if forced else engine.sample()
        if engine.is_end(token):
            break
        answer.tokens.append(token)
        data = engine.piece(token)
        # A mark must reach the parser alone, whatever unfinished character came before it.
        events = [
            *(parser.feed(decoder.flush()) if data in MARKS else ()),
            *parser.feed(decoder.feed(data)),
        ]
        answer.add_events(events)
        yield from events
        loop = detector.feed(token) if options.stop_on_loop else None
        if loop is not None:
            repeated = answer.tokens[loop.onset : loop.onset + loop.period]
            answer.loop = FoundLoop(
                _decode_unit(engine, repeated), loop.period, loop.onset, loop.covered, loop.kind
            )
            answer.finish = "loop"
            break
        if parser.in_thought:
            answer.thought_tokens += 1
            if options.thought_tokens and answer.thought_tokens == options.thought_tokens:
                forced = list(close_thought)
        if len(answer.tokens) == options.max_tokens:
            answer.finish = "length"
            break
        if engine.n_past >= engine.n_ctx:
            answer.finish, answer.context_full = "length", True
            break
        if not engine.advance(token):
            answer.finish = "interrupted"
            break
    rest = parser.feed(decoder.flush()) + parser.finish()
    answer.add_events(rest)
    yield from rest


def _has_text(engine: Engine) -> Callable[[int], bool]:
    """Return whether a token holds a letter or a digit: rows of lines and dots may repeat for
    longer.
    """
    known: dict[int, bool] = {}

    def has_text(token: int) -> bool:
        if token not in known:
            known[token] = any(c.isalnum() for c in engine.piece(token).decode("utf-8", "ignore"))
        return known[token]

    return has_text


def _decode_unit(engine: Engine, tokens: Sequence[int]) -> str:
    data = b"".join(engine.piece(token) for token in tokens[:_UNIT_TOKENS])
    return data.decode("utf-8", "replace") + (" ..." if len(tokens) > _UNIT_TOKENS else "")

"""One answer, token by token: from the ids that were sampled to events, until something ends it.

What a token does depends on those before it: marks switch between answer, thought and tool call, a
character may be spread over several tokens, a stop string too, a loop is seen when it has gone on
for long enough, and a thought that uses its budget up is ended by forced tokens. `Answer` holds
that state and knows no model, so that one answer or many at once can be driven by whatever samples
their tokens.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from g4cli.chat.events import (
    Evaluated,
    FinishReason,
    FoundLoop,
    LoopNoticed,
    Reply,
    TurnOptions,
)
from g4cli.chat.stop_strings import StopFilter
from g4cli.loops.detector import Loop, LoopDetector
from g4cli.loops.unordered import measure_count
from g4cli.prompt.messages import ToolCall
from g4cli.prompt.reply import (
    MARKS,
    AnswerText,
    CallMade,
    ReplyEvent,
    ReplyParser,
    SampledToken,
    ThoughtText,
)

_MAX_UNIT_TOKENS: Final = 64  # tokens of a repeated text that a message shows


class Vocabulary(Protocol):
    """What an answer needs to know of tokens.

    `piece`: the bytes of a token. `is_end`: whether it ends the answer. `digits`: the tokens of the
    digits 0 to 9 with their values. `close_thought`: the tokens that end a thought.
    """

    def piece(self, token: int) -> bytes: ...
    def is_end(self, token: int) -> bool: ...
    @property
    def digits(self) -> Mapping[int, int]: ...
    @property
    def close_thought(self) -> Sequence[int]: ...


class Answer:
    """The answer to one prompt while it is written.

    `finish` is None while it goes on. Whoever drives it may set it (an interruption), and calls
    `end` once it is set.
    """

    def __init__(self, vocabulary: Vocabulary, options: TurnOptions) -> None:
        self.finish: FinishReason | None = None
        self.tokens: list[int] = []
        self._vocabulary, self._options = vocabulary, options
        # It holds back the bytes of a character that is spread over several tokens.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parser = ReplyParser()
        self._stops = StopFilter(options.stop)
        self._detector = LoopDetector(self._has_text, vocabulary.digits, self._count_line_ends)
        self._known_texts: dict[int, bool] = {}  # token -> whether it holds text
        self._forced: list[int] = []  # the next tokens, if they are not to be sampled
        # Tokens whose text is held back: the decoder waits for the rest of a character.
        self._sampled: list[SampledToken] = []
        self._n_thought = 0  # tokens of all thoughts
        self._text: list[str] = []
        self._thought: list[str] = []
        self._calls: list[ToolCall] = []
        self._context_full = False
        self._loop: FoundLoop | None = None
        self._retried: FoundLoop | None = None  # the loop that `cut_back` took out

    @property
    def n_probs(self) -> int | None:
        """Return how many alternatives are told with each token; None if tokens are not told."""
        return self._options.n_probs

    @property
    def wants_probability(self) -> bool:
        """Return whether the loop detector can use the probability of the next token."""
        return self._looks_for_loop and self._detector.wants_probability

    @property
    def _looks_for_loop(self) -> bool:
        return self._options.on_loop != "ignore" and self._loop is None

    def take_forced(self) -> int | None:
        """Return the next token if it is forced, so that none is sampled; else None."""
        return self._forced.pop(0) if self._forced else None

    def add_token(
        self,
        token: int,
        sampled: SampledToken | None = None,
        *,
        has_room: bool = True,
        probability: float | None = None,
    ) -> list[ReplyEvent | LoopNoticed]:
        """Return the events of the next token; `finish` is set if it is the last one.

        `sampled`: the token with the probabilities that go out with the events, if they were asked
        for. `has_room`: whether the context can take it.
        `probability`: the model's own, before any sampler, for the loop detector; None: unknown.
        """
        if self._vocabulary.is_end(token):
            self.finish = "stop"
            return []
        self.tokens.append(token)
        events: list[ReplyEvent | LoopNoticed] = [*self._parse_token(token, sampled)]
        had_loop = self._loop is not None
        self._check_end(token, probability, has_room=has_room)
        if self._loop is not None and not (had_loop or self.finish):
            events.append(LoopNoticed(self._loop))
        return events

    def cut_back(self) -> tuple[Answer, int]:
        """Return this answer as it was when its loop began, and the token that went on with it.

        That token is the one that a retry must not sample next. A loop must be known, and `end` be
        called. One copy of what is repeated stays, if the copies have an order.
        """
        loop = self._loop
        assert loop is not None
        has_order = loop.kind not in ("few-tokens", "few-phrases")
        n_kept = loop.onset + (self._measure_unit(loop) if has_order else 0)
        answer = Answer(self._vocabulary, replace(self._options, on_loop="stop"))
        answer._retried = loop
        for token in self.tokens[:n_kept]:
            answer.take_forced()  # a thought that was ended is in the tokens
            answer.add_token(token)
        return answer, self.tokens[n_kept]

    def notice_retry(self) -> LoopNoticed:
        """Return the event that tells of the cut: what is left of the answer."""
        assert self._retried is not None
        thought = "".join(self._thought)
        return LoopNoticed(self._retried, retried=True, text="".join(self._text), thought=thought)

    def end(self) -> list[ReplyEvent]:
        """Return what was held back in the middle of a character, a call or a stop string."""
        events = self._read_text(self._decoder.decode(b"", final=True))
        if not self._options.raw:
            events += self._parser.finish(is_cut=self.finish != "stop")
        return self._record_events([*self._filter_events(events), *self._stops.release_held()])

    def make_reply(
        self, prompt_tokens: int, read: Evaluated, prompt_s: float, decode_s: float
    ) -> Reply:
        """Return the finished answer with the figures of its prompt."""
        text = "".join(self._text)
        data = b"".join(map(self._vocabulary.piece, self.tokens))
        return Reply(
            text=text,
            thought="".join(self._thought).strip(),
            tool_calls=tuple(self._calls),
            finish_reason=self.finish or "interrupted",
            context_full=self._context_full,
            prompt_tokens=prompt_tokens,
            reused_tokens=read.reused,
            evaluated_tokens=read.evaluated,
            prompt_s=prompt_s,
            decode_s=decode_s,
            loop=self._loop,
            tokens=tuple(self.tokens),
            is_verbatim=text == data.decode("utf-8", "replace"),
            stop_string=self._stops.found,
            retried=self._retried,
            thought_tokens=self._n_thought,
            text_to_loop="".join(self.cut_back()[0]._text) if self._loop is not None else "",
        )

    def _parse_token(self, token: int, sampled: SampledToken | None) -> list[ReplyEvent]:
        """Return the events of a token's text, without what may be part of a stop string."""
        data = self._vocabulary.piece(token)
        events: list[ReplyEvent] = []
        if data in MARKS and not self._options.raw:
            # A mark must reach the parser alone, whatever unfinished character came before it.
            events += self._read_text(self._decoder.decode(b"", final=True))
            self._sampled.clear()
        elif sampled is not None:
            self._sampled.append(sampled)
        events += self._read_text(self._decoder.decode(data))
        return self._record_events(self._filter_events(events))

    def _read_text(self, text: str) -> list[ReplyEvent]:
        """Return the events of a text, parsed for thoughts and tool calls unless all is answer."""
        if self._options.raw:
            return [AnswerText(text)] if text else []
        return self._parser.feed(text)

    def _filter_events(self, events: list[ReplyEvent]) -> list[ReplyEvent]:
        """Return events with the tokens that their text comes from, watched for stop strings."""
        for index, event in enumerate(events if self._sampled else ()):
            if isinstance(event, AnswerText | ThoughtText):
                events[index] = replace(event, tokens=tuple(self._sampled))
                self._sampled.clear()
                break
        return self._stops.filter_events(events)

    def _record_events(self, events: list[ReplyEvent]) -> list[ReplyEvent]:
        """Return the events, after adding them to the text, thought and calls of the answer."""
        for event in events:
            if isinstance(event, AnswerText):
                self._text.append(event.text)
            elif isinstance(event, ThoughtText):
                self._thought.append(event.text)
            elif isinstance(event, CallMade):
                self._calls.append(event.call)
        return events

    def _check_end(self, token: int, probability: float | None, *, has_room: bool) -> None:
        """Set `finish` if the token just added is the last one."""
        if self._looks_for_loop:
            loop = self._detector.feed(token, probability)
            self._loop = self._describe_loop(loop) if loop is not None else None
        self._n_thought += self._parser.in_thought
        if self._stops.found or len(self._calls) >= (self._options.max_calls or math.inf):
            self.finish = "stop"
        elif self._loop is not None and self._options.on_loop != "warn":
            self.finish = "loop"
        elif len(self.tokens) == self._options.max_tokens:
            self.finish = "length"
        elif not has_room:
            self.finish, self._context_full = "length", True
        elif self._parser.in_thought and not self._forced:
            # A thought that is opened again gets no new budget.
            is_spent = 0 < self._options.max_thought_tokens <= self._n_thought
            self._forced = list(self._vocabulary.close_thought) if is_spent else []

    def _describe_loop(self, loop: Loop) -> FoundLoop:
        repeated = self.tokens[loop.onset : loop.onset + self._measure_unit(loop)]
        data = b"".join(self._vocabulary.piece(token) for token in repeated[:_MAX_UNIT_TOKENS])
        unit = data.decode("utf-8", "replace") + (
            " ..." if len(repeated) > _MAX_UNIT_TOKENS else ""
        )
        return FoundLoop(unit, loop.period, loop.onset, loop.covered, loop.kind)

    def _measure_unit(self, loop: Loop | FoundLoop) -> int:
        """Return how many tokens the first copy of what is repeated has."""
        if loop.kind != "counter":
            return loop.period
        return measure_count(self.tokens[loop.onset :], loop.period, self._vocabulary.digits)

    def _has_text(self, token: int) -> bool:
        """Return whether a token holds a letter or a digit: what has none may repeat longer."""
        if token not in self._known_texts:
            text = self._vocabulary.piece(token).decode("utf-8", "ignore")
            self._known_texts[token] = any(c.isalnum() for c in text)
        return self._known_texts[token]

    def _count_line_ends(self, token: int) -> int:
        return self._vocabulary.piece(token).count(b"\n")

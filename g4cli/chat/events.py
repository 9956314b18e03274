"""What a turn is asked for, and the events that come out of it. Pure values.

`turn.py` (and the engine's scheduler, for many at once) yields them; views, the server's wire
formats and the store read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from g4cli.loops.detector import LoopKind
from g4cli.prompt.messages import Message, ToolCall
from g4cli.prompt.reply import ReplyEvent

FinishReason: TypeAlias = Literal["stop", "length", "loop", "interrupted"]

OnLoop: TypeAlias = Literal["stop", "retry", "warn", "ignore"]
"""What becomes of an answer that repeats itself.

stop    it ends
retry   once, it is cut back to where the repetition began and continued in another way
warn    it goes on, and the reader is told
ignore  it goes on: repetitions are not looked for
"""


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """Limits of one answer, and what is told of it.

    `max_tokens` 0: until the context is full. `max_thought_tokens`: when all thoughts of the answer
    together have so many tokens, g4 ends the thought; 0: no limit. `stop`: texts that end the
    answer; they are looked for in the answer, not in thoughts. `n_probs`: each token is told
    with so many of the most probable ones in its place; None: not at all. `max_calls`: the answer
    ends with so many tool calls; 0: no limit. `raw`: all that the model writes is the answer,
    thoughts and tool calls with their marks too.
    """

    max_tokens: int = 0
    on_loop: OnLoop = "stop"
    max_thought_tokens: int = 0
    stop: tuple[str, ...] = ()
    n_probs: int | None = None
    raw: bool = False
    max_calls: int = 0


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What became of a prompt: tokens that were in the KV cache, tokens that were evaluated.

    `complete` is False if it was interrupted.
    """

    reused: int
    evaluated: int
    complete: bool


@dataclass(frozen=True, slots=True)
class FoundLoop:
    """A repetition of the text `unit`, of `period` tokens, which covers `covered` tokens.

    `onset` is the index of its first token in the answer. `kind` is the detector's
    (loops/detector.py has a table): exact, noisy (with changes), counter (with a number that
    counts), few-tokens and few-phrases (in any order).
    """

    unit: str
    period: int
    onset: int
    covered: int
    kind: LoopKind = "exact"


@dataclass(frozen=True, slots=True)
class LoopNoticed:
    """An answer repeats itself and goes on all the same. `retried`: it was cut back first.

    `text` and `thought` are what is left of it then.
    """

    loop: FoundLoop
    retried: bool = False
    text: str = ""
    thought: str = ""


@dataclass(frozen=True, slots=True)
class PromptRead:
    """The prompt is evaluated and the answer begins; `slot` is its sequence in the context.

    Of `prompt_tokens`, `reused` were in the KV cache already; the rest took `seconds`.
    """

    prompt_tokens: int
    reused: int
    seconds: float
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer with its figures. Seconds are wall-clock time.

    `context_full`: the answer ended because the context was full (`finish_reason` "length").
    `prompt_tokens` are `reused_tokens`, which were in the KV cache, and `evaluated_tokens`.
    `tokens` are the ids of the answer: with thoughts, calls and forced tokens, without the token
    that ended it. `is_verbatim`: their text is `text`, with nothing left out. `stop_string`: the
    one that ended the answer, which is not part of `text`, or "". `loop`: the repetition that ended
    it, or was let pass; `text_to_loop`: the part of `text` up to the end of its first copy, or to
    its beginning if the copies have no order. `retried`: the one that was cut out of it.
    `thought_tokens` are those of `tokens` within the thinking channel, the name of the channel
    included.
    """

    text: str
    thought: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    context_full: bool
    prompt_tokens: int
    reused_tokens: int
    evaluated_tokens: int
    prompt_s: float
    decode_s: float
    loop: FoundLoop | None
    tokens: tuple[int, ...]
    is_verbatim: bool = False
    stop_string: str = ""
    retried: FoundLoop | None = None
    thought_tokens: int = 0
    text_to_loop: str = ""

    @classmethod
    def interrupted(cls) -> Reply:
        """Return the answer to a question that was stopped before the model saw it."""
        return cls("", "", (), "interrupted", False, 0, 0, 0, 0.0, 0.0, None, ())

    @property
    def completion_tokens(self) -> int:
        """Return the number of tokens of the answer, as OpenAI's API calls it."""
        return len(self.tokens)

    @property
    def prompt_tps(self) -> float:
        """Return prompt tokens evaluated per second."""
        return self.evaluated_tokens / self.prompt_s if self.prompt_s > 0 else 0.0

    @property
    def decode_tps(self) -> float:
        """Return answer tokens per second."""
        return self.completion_tokens / self.decode_s if self.decode_s > 0 else 0.0

    def message(self) -> Message:
        """Return the turn to keep in the conversation.

        It has its tokens where the next prompt holds them unchanged: so they are not evaluated
        again, even if tokenizing the text would give others. Prompts leave out thoughts, marks,
        what a stop string cut off, and white space around an answer.
        """
        is_kept = self.is_verbatim and self.text == self.text.strip()
        return Message(
            "assistant",
            self.text,
            thought=self.thought,
            tool_calls=self.tool_calls,
            tokens=self.tokens if is_kept else (),
        )


@dataclass(slots=True)
class DraftStats:
    """Drafted and accepted tokens of an answer.

    `stopped_at`: the position from which on nothing was drafted, because logits would have
    differed.
    """

    n_drafted: int = 0
    n_accepted: int = 0
    stopped_at: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a turn; `n_past` tokens are in the context now.

    `drafted`: None where nothing drafts.
    """

    reply: Reply
    n_past: int = 0
    drafted: DraftStats | None = None


TurnEvent: TypeAlias = PromptRead | ReplyEvent | LoopNoticed | Finished


class View:
    """Shows the progress of encoding and prompt processing, then the events of a turn.

    This one shows nothing.
    """

    def show_waiting(self) -> None:
        """The prompt was handed to the model."""

    def show_encoding(self, name: str) -> None:
        """The image or audio file called `name` is being encoded."""

    def show_reading(self, done: int, total: int, part: str) -> None:
        """`done` of `total` prompt tokens are evaluated: a `Progress`."""

    def show(self, event: TurnEvent) -> None:
        """An event of the turn, in order."""

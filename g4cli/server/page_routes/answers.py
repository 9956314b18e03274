"""Answers of the page: begin, watch, stop.

The events of an answer are its changes since the last event that the page has seen, not each token:
a page that was away for a minute gets one event with all of it. The id of an event says what was
seen: characters of the thought, and changes of the HTML (`MarkdownStream`).
"""

from __future__ import annotations

import asyncio
import re
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field
from starlette.responses import Response

from g4cli.core.errors import NotFound
from g4cli.core.visible import AnswerCleaner
from g4cli.operations.page.answers import PageAnswer
from g4cli.operations.serving.requests import Thinking, TurnRequest
from g4cli.prompt.messages import Message
from g4cli.server.limits import MAX_MEDIA, MAX_TOKENS
from g4cli.server.page_routes.access import PageParam, RowId, make_page_router
from g4cli.server.page_routes.stream import MarkdownStream
from g4cli.server.page_routes.turns import describe_end
from g4cli.server.streaming import PiecewiseResponse, encode_json
from g4cli.server.wire_model import RequestBody, WireModel

router = make_page_router()
# Choices: sixteen events a second look like writing; proxies close what is silent for a minute.
_PAUSE_S: Final = 0.06  # between two events: what comes meanwhile is sent together
_KEEP_ALIVE_S: Final = 15.0  # without a change until a comment is sent
_SEEN: Final = re.compile(r"(\d{1,12})\.(\d{1,12})", re.ASCII)


class SamplingBody(WireModel):
    """Sampling parameters; what is not given is the model's default."""

    temp: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None


class AnswerBody(RequestBody):
    """How an answer is asked for."""

    model: Annotated[str, Field(max_length=1000)] = ""
    thinking: Thinking = "off"
    max_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS)] = 0  # 0: the model's default
    stop_on_loop: bool = True
    sampling: SamplingBody = SamplingBody()

    def make_request(self) -> TurnRequest:
        """Return how to answer; the messages are still missing."""
        names = set(AnswerBody.model_fields)  # a QuestionBody has more fields
        return TurnRequest(**self.model_dump(include=names, exclude_none=True))


class MediaBody(WireModel):
    """An image or a sound that was sent before: its kind and its name."""

    kind: Literal["image", "audio"]
    name: Annotated[str, Field(max_length=64)]


class QuestionBody(AnswerBody):
    """A question, after the turn `parent`; null: the first one."""

    parent: RowId | None
    text: str
    media: Annotated[list[MediaBody], Field(max_length=MAX_MEDIA)] = Field(default_factory=list)


@router.post("/conversations/{conversation}/questions")
async def ask_question(conversation: RowId, body: QuestionBody, page: PageParam) -> dict[str, Any]:
    """Append a question and begin its answer; return the id of the answer's turn."""
    find = page.conversations.find_kept_media
    media = tuple(find(item.kind, item.name) for item in body.media)
    message = Message("user", body.text, media=media)
    answer = await page.conversations.ask(
        conversation, message, parent=body.parent, request=body.make_request()
    )
    return {"answer": answer.turn}


@router.post("/conversations/{conversation}/questions/{question}/answers")
async def answer_again(
    conversation: RowId, question: RowId, body: AnswerBody, page: PageParam
) -> dict[str, Any]:
    """Begin one more answer to a question; return the id of its turn."""
    answer = await page.conversations.answer_again(conversation, question, body.make_request())
    return {"answer": answer.turn}


@router.post("/answers/{turn}/stop")
async def stop_answer(turn: RowId, page: PageParam) -> dict[str, Any]:
    """Stop an answer; what is written stays."""
    answer = page.conversations.answers.get(turn)
    if answer is not None:
        await answer.stop()
    return {"stopped": answer is not None}


@router.get("/answers/{turn}")
async def watch_answer(turn: RowId, page: PageParam, after: str = "0.0") -> Response:
    """Return the events of an answer that follow the event whose id is `after`.

    Raises NotFound for one that is not being written: it is in its conversation.
    """
    answer = page.conversations.answers.get(turn)
    if answer is None:
        raise NotFound("this answer is not being written any more")
    match = _SEEN.fullmatch(after)
    seen = (int(match[1]), int(match[2])) if match else (0, 0)
    return PiecewiseResponse(_write_events(answer, *seen), AsyncExitStack())


async def _write_events(answer: PageAnswer, n_thought: int, n_changes: int) -> AsyncIterator[str]:
    view = find_view(answer)
    while True:
        version, is_done = answer.version, answer.state == "done"
        event, n_thought, n_changes = await asyncio.to_thread(
            view.describe_changes, n_thought, n_changes, is_done=is_done
        )
        yield f"id: {n_thought}.{n_changes}\ndata: {encode_json(event)}\n\n"
        if is_done:
            return
        await asyncio.sleep(_PAUSE_S)
        while answer.version == version and answer.state != "done":
            try:
                await asyncio.wait_for(answer.wait_for_change(version), _KEEP_ALIVE_S)
            except asyncio.TimeoutError:
                yield ": waiting\n\n"


class Changes(NamedTuple):
    """The next event of an answer, and what a page has seen with it."""

    event: dict[str, Any]  # AnswerEvent in page/types.js
    n_thought: int  # characters of the thought
    n_changes: int  # changes of the HTML


class AnswerView:
    """An answer as HTML while it is written; all pages that show it share it."""

    def __init__(self, answer: PageAnswer) -> None:
        self._answer = answer
        self._stream = MarkdownStream()
        self._n_fed = 0  # characters of the answer that `_stream` has
        self._clean = AnswerCleaner()  # of the thought
        self._thought = ""  # as it is shown: cleaned
        self._n_cleaned = 0  # characters of the thought before it was cleaned
        self._lock = threading.Lock()

    def describe_changes(self, n_thought: int, n_changes: int, *, is_done: bool) -> Changes:
        """Return what changed since a page has seen so many characters and changes.

        `is_done`: the answer was done when the caller looked, so that this event is the last one.
        """
        answer, stream = self._answer, self._stream
        with self._lock:
            text, thought = answer.text, answer.thought
            stream.feed(text[self._n_fed :])
            self._n_fed = len(text)
            self._thought += self._clean(thought[self._n_cleaned :])
            self._n_cleaned = len(thought)
            if is_done:
                stream.finish()
            event: dict[str, Any] = {
                # An answer that ended after `is_done` was read says so in the next event.
                "state": answer.state if is_done or answer.state != "done" else "writing",
                "thought": self._thought[n_thought:],
                "thought_s": round(answer.thought_s, 1),
                "changes": stream.list_changes(n_changes),
            }
            if answer.n_prompt:
                event["prompt_tokens"] = answer.n_prompt
            if is_done:
                event["end"] = describe_end(answer)
            return Changes(event, len(self._thought), stream.version)


_views: weakref.WeakKeyDictionary[PageAnswer, AnswerView] = weakref.WeakKeyDictionary()


def find_view(answer: PageAnswer) -> AnswerView:
    """Return the HTML of an answer, made when it is shown first."""
    view = _views.get(answer)
    if view is None:
        view = _views[answer] = AnswerView(answer)
    return view

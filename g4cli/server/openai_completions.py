"""POST /v1/completions: OpenAI's older form, a prompt without a chat template.

Source: openai-python, src/openai/types/completion_create_params.py and completion.py. `n_predict`
is llama-server's name of `max_tokens`. A prompt is text, in which control tokens are read as such,
or token ids. Of several prompts each has `n` choices; they are numbered through, first those of the
first prompt. `user` is accepted and changes nothing, and so are `best_of` 1 and `suffix` "".
`logprobs` together with `echo` is refused: the tokens of a prompt have no probabilities, since
their logits are not computed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import accumulate
from typing import Annotated, Any, Final, Literal, TypeAlias

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from g4cli.chat import Finished, Reply
from g4cli.core.errors import BadField
from g4cli.operations.serving.loaded import Turn
from g4cli.operations.serving.requests import TurnRequest
from g4cli.operations.serving.service import Service
from g4cli.prompt.reply import AnswerText, SampledToken
from g4cli.server.body import ThreadedBodyRoute
from g4cli.server.limits import MAX_CHOICES, MAX_GRAMMAR_CHARACTERS, MAX_TOKENS
from g4cli.server.openai_answer import (
    AnswerId,
    Choice,
    collect_choice,
    describe_loops,
    finish_reason,
    make_timings,
    make_usage,
)
from g4cli.server.openai_messages import make_sampling, make_stop
from g4cli.server.openai_request import LoopOptions, SamplingFields, StreamOptions
from g4cli.server.streaming import (
    PiecewiseResponse,
    encode_error,
    encode_event,
    read_whole,
    run_together,
    send_json,
    start_first_turn,
    wait_for_result,
)
from g4cli.server.wire_model import ServiceParam

router = APIRouter(tags=["completions"], route_class=ThreadedBodyRoute)
# OpenAI's default of max_tokens, which clients know and expect.
_MAX_TOKENS: Final = 16
_MAX_PROMPTS: Final = 128  # a choice: of prompts, and of the choices of all of them together
_MAX_LOGPROBS: Final = 5  # OpenAI's limit here

TokenIds: TypeAlias = Annotated[list[int], Field(min_length=1, max_length=MAX_TOKENS)]


class CompletionBody(SamplingFields):
    """The body of POST /v1/completions."""

    model: str = ""
    prompt: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=_MAX_PROMPTS)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=_MAX_PROMPTS)]
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    n_predict: Annotated[int, Field(ge=-1, le=MAX_TOKENS)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    best_of: Literal[1] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=_MAX_LOGPROBS)] | None = None
    grammar: Annotated[str, Field(max_length=MAX_GRAMMAR_CHARACTERS)] | None = None
    suffix: Literal[""] | None = None
    g4: LoopOptions | None = None
    user: str | None = None


def make_turn_requests(body: CompletionBody) -> list[TurnRequest]:
    """Return one request for each choice, those of the first prompt first. Raises BadField."""
    if body.max_tokens is not None and body.n_predict is not None:
        raise BadField("n_predict", "it is max_tokens under another name")
    if body.echo and body.logprobs is not None:
        raise BadField("echo", "the tokens of a prompt have no probabilities: without logprobs")
    prompts = _split_prompts(body.prompt)
    n_choices = len(prompts) * (body.n or 1)
    if n_choices > _MAX_PROMPTS:
        raise BadField("n", f"{n_choices} choices; at most {_MAX_PROMPTS}")
    n_predict = body.n_predict if body.max_tokens is None else body.max_tokens
    if n_predict == 0:
        raise BadField("n_predict", "at least one token is generated")
    requests = []
    for prompt in prompts:
        request = TurnRequest(
            model=body.model,
            prompt=prompt,
            sampling=make_sampling(body),
            stop=make_stop(body),
            max_tokens=_MAX_TOKENS if n_predict is None else max(n_predict, 0),  # 0: no limit
            grammar=body.grammar or "",
            form_field="grammar",
            n_probs=body.logprobs,
            stop_on_loop=body.g4 is None or body.g4.stop_on_loop is not False,
        )
        requests += [replace(request, choice=index) for index in range(body.n or 1)]
    return requests


def _split_prompts(prompt: Any) -> list[str | tuple[int, ...]]:
    if isinstance(prompt, str) or isinstance(prompt[0], int):
        prompt = [prompt]
    return [item if isinstance(item, str) else tuple(item) for item in prompt]


@router.post("/v1/completions", response_model=None)
async def complete(body: CompletionBody, request: Request, service: ServiceParam) -> Response:
    """Continue one or several prompts: as one JSON object, or as a stream of events."""
    requests = make_turn_requests(body)
    if body.stream:
        turn, turns = await start_first_turn(request, service, requests[0])
        stream = _CompletionStream(service, body, turn.model.name)
        return PiecewiseResponse(stream.write_chunks(turn, turns, requests), turns)
    collecting = run_together(_collect_choice(service, body, item) for item in requests)
    choices = await wait_for_result(request, collecting)
    answer = AnswerId.new(service.find_model(body.model).name, "cmpl-")
    replies = [choice.reply for _, choice in choices]
    whole = {
        **answer.as_fields("text_completion"),
        "choices": [
            {
                "index": index,
                "text": echoed + choice.reply.text,
                "logprobs": None if body.logprobs is None else list_logprobs(choice.tokens),
                "finish_reason": finish_reason(choice.reply),
            }
            for index, (echoed, choice) in enumerate(choices)
        ],
        "usage": make_usage(replies, body.n or 1),
        "timings": make_timings(replies[0]),
        **describe_loops(replies),
    }
    return send_json(whole)


async def _collect_choice(
    service: Service, body: CompletionBody, request: TurnRequest
) -> tuple[str, Choice]:
    """Return what stands before the answer (the prompt with `echo`, or ""), and the answer."""
    echoed = await _echo_prompt(service, body, request)
    return echoed, await collect_choice(service, request)


async def _echo_prompt(service: Service, body: CompletionBody, request: TurnRequest) -> str:
    """Return the prompt as text if it is to stand before the answer (`echo`), otherwise ""."""
    if not body.echo or request.prompt is None:
        return ""
    if isinstance(request.prompt, str):
        return request.prompt
    return await service.detokenize(request.model, request.prompt)


class _CompletionStream:
    """The server-sent events of one request; a choice begins when the one before it has ended."""

    def __init__(self, service: Service, body: CompletionBody, model: str) -> None:
        self._service, self._body = service, body
        self._answer = AnswerId.new(model, "cmpl-")
        options = body.stream_options
        self._include_usage = options is not None and bool(options.include_usage)

    async def write_chunks(
        self, first: Turn, turns: AsyncExitStack, requests: list[TurnRequest]
    ) -> AsyncIterator[str]:
        """Yield all events; `first` is the answer to the first of `requests`, begun.

        `turns` ends it. Each turn ends before the next one begins: they need one place in the
        queue.
        """
        replies: list[Reply] = []
        try:
            for index, request in enumerate(requests):
                echoed = await _echo_prompt(self._service, self._body, request)
                if echoed:
                    yield self._write(index, echoed, ())
                async with turns:
                    turn = first
                    if index:
                        turn = await turns.enter_async_context(self._service.start_turn(request))
                    n_characters = 0
                    async for event in read_whole(turn):
                        if isinstance(event, AnswerText):
                            yield self._write(index, event.text, event.tokens, n_characters)
                            n_characters += len(event.text)
                        elif isinstance(event, Finished):
                            replies.append(event.reply)
                            yield self._write_end(index, event.reply)
            if self._include_usage:
                usage = {"usage": make_usage(replies, self._body.n or 1)}
                yield encode_event({**self._make_head(), "choices": [], **usage})
            yield "data: [DONE]\n\n"
        except Exception as err:
            yield encode_error(err, "/v1/completions")

    def _make_head(self) -> dict[str, Any]:
        head = self._answer.as_fields("text_completion")
        return {**head, "usage": None} if self._include_usage else head

    def _write(self, index: int, text: str, tokens: Sequence[SampledToken], offset: int = 0) -> str:
        logprobs = None if self._body.logprobs is None else list_logprobs(tokens, offset)
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None}
        return encode_event({**self._make_head(), "choices": [choice]})

    def _write_end(self, index: int, reply: Reply) -> str:
        end = {"text": "", "logprobs": None, "finish_reason": finish_reason(reply)}
        chunk = {**self._make_head(), "choices": [{"index": index, **end}]}
        return encode_event({**chunk, "timings": make_timings(reply), **describe_loops([reply])})


def list_logprobs(tokens: Sequence[SampledToken], offset: int = 0) -> dict[str, Any]:
    """Return tokens with their natural log-probabilities, as lists of equal length.

    `offset`: characters of the answer before the first of them.
    """
    ends = accumulate((len(token.text) for token in tokens), initial=offset)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.finite_logprob for token in tokens],
        "top_logprobs": [{other.text: other.finite_logprob for other in t.top} for t in tokens],
        "text_offset": list(ends)[:-1],
    }

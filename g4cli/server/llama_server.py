"""POST /completion, /tokenize, /detokenize and /apply-template, as llama-server answers them.

Source: tools/server/README.md and server-task.cpp to_json_non_oaicompat, llama.cpp@0c1e57098. Of
/completion the fields are those of g4's samplers; others are refused by their names, and so are
prompts that mix text and tokens or hold images. A field whose type is a Literal is accepted with
the value that g4 has anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from g4cli.chat import Finished, Reply, TurnEvent
from g4cli.core.errors import BadField
from g4cli.operations.serving.requests import TurnRequest
from g4cli.prompt.reply import AnswerText, SampledToken, tokens_to_json
from g4cli.server.body import ThreadedBodyRoute
from g4cli.server.declarations import encode_schema
from g4cli.server.limits import (
    MAX_GRAMMAR_CHARACTERS,
    MAX_MESSAGES,
    MAX_TOKENS,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
)
from g4cli.server.openai_answer import describe_loops, make_timings
from g4cli.server.openai_messages import (
    convert_messages,
    convert_tools,
    make_sampling,
    make_stop,
)
from g4cli.server.openai_request import SamplingFields, TemplateOptions, Tool, WireMessage
from g4cli.server.streaming import (
    AnswerStream,
    send_answer,
    start_first_turn,
    wait_for_result,
)
from g4cli.server.wire_model import RequestBody, ServiceParam

router = APIRouter(tags=["llama-server"], route_class=ThreadedBodyRoute)


class LlamaCompletionBody(SamplingFields):
    """The body of POST /completion."""

    model: str = ""
    prompt: str | Annotated[list[int], Field(min_length=1, max_length=MAX_TOKENS)]
    stream: bool | None = None
    n_predict: Annotated[int, Field(ge=-1, le=MAX_TOKENS)] | None = None
    n_probs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    grammar: Annotated[str, Field(max_length=MAX_GRAMMAR_CHARACTERS)] | None = None
    json_schema: dict[str, JsonValue] | None = None
    return_tokens: bool | None = None
    cache_prompt: Literal[True] | None = None
    id_slot: Literal[-1] | None = None
    post_sampling_probs: Literal[False] | None = None


class TokenizeBody(RequestBody):
    """The body of POST /tokenize."""

    model: str = ""
    content: str
    add_special: bool = False
    parse_special: bool = True
    with_pieces: Literal[False] = False


class DetokenizeBody(RequestBody):
    """The body of POST /detokenize."""

    model: str = ""
    tokens: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=MAX_TOKENS)]


class TemplateBody(RequestBody):
    """The body of POST /apply-template."""

    model: str = ""
    messages: Annotated[list[WireMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    chat_template_kwargs: TemplateOptions | None = None
    add_generation_prompt: Literal[True] | None = None


@router.post("/tokenize", response_model=None)
async def tokenize(body: TokenizeBody, request: Request, service: ServiceParam) -> dict[str, Any]:
    """Return the tokens of a text."""
    tokenizing = service.tokenize(
        body.model, body.content, control=body.parse_special, with_bos=body.add_special
    )
    tokens = await wait_for_result(request, tokenizing)
    return {"tokens": list(tokens)}


@router.post("/detokenize", response_model=None)
async def detokenize(
    body: DetokenizeBody, request: Request, service: ServiceParam
) -> dict[str, Any]:
    """Return the text of tokens."""
    detokenizing = service.detokenize(body.model, tuple(body.tokens))
    return {"content": await wait_for_result(request, detokenizing)}


@router.post("/apply-template", response_model=None)
async def apply_template(
    body: TemplateBody, request: Request, service: ServiceParam
) -> dict[str, Any]:
    """Return the prompt that the messages of a chat become, without the BOS that begins it."""
    messages = await asyncio.to_thread(convert_messages, body.messages, service.media)
    options = body.chat_template_kwargs
    asked = TurnRequest(
        model=body.model,
        messages=messages,
        tools=convert_tools(body.tools or ()),
        thinking="on" if options is not None and options.enable_thinking else "off",
        continue_last=messages[-1].role == "assistant" and not messages[-1].tool_calls,
    )
    prompt = await wait_for_result(request, service.render_prompt(asked))
    return {"prompt": prompt.removeprefix("<bos>")}


@router.post("/completion", response_model=None)
@router.post("/completions", response_model=None, include_in_schema=False)
async def complete(body: LlamaCompletionBody, request: Request, service: ServiceParam) -> Response:
    """Continue a prompt in llama-server's own form."""
    if body.json_schema is not None and body.grammar:
        raise BadField("grammar", "json_schema says what the answer is already")
    if body.n_predict == 0:
        raise BadField("n_predict", "at least one token is generated")
    # As in llama-server, an empty schema means any object.
    schema = {"type": "object"} if body.json_schema == {} else body.json_schema
    asked = TurnRequest(
        model=body.model,
        prompt=body.prompt if isinstance(body.prompt, str) else tuple(body.prompt),
        sampling=make_sampling(body),
        stop=make_stop(body),
        max_tokens=max(body.n_predict or 0, 0),
        grammar=body.grammar or "",
        form_field="grammar" if body.grammar else "json_schema",
        json_schema="" if schema is None else encode_schema(schema, "json_schema"),
        n_probs=body.n_probs or None,
    )
    turn, turns = await start_first_turn(request, service, asked)
    async with turns:
        prompt = body.prompt
        if not isinstance(prompt, str):
            prompt = await wait_for_result(request, service.detokenize(body.model, tuple(prompt)))
        answer = _CompletionStream(body, turn.model.name, prompt)
        return await send_answer(request, turn, turns.pop_all(), answer, whole=not body.stream)


class _CompletionStream(AnswerStream):
    """One object for each piece of text of the answer; the last one has the figures."""

    def __init__(self, body: LlamaCompletionBody, model: str, prompt: str) -> None:
        self._return_tokens = bool(body.return_tokens)
        self._model, self._prompt = model, prompt
        self._tokens: list[SampledToken] = []

    def convert(self, event: TurnEvent) -> Iterator[dict[str, Any]]:
        """Yield the object that tells a client of `event`, if it is told of it."""
        if isinstance(event, AnswerText):
            piece: dict[str, Any] = {"index": 0, "content": event.text, "stop": False}
            yield piece | self._describe_tokens(event.tokens)
            self._tokens += event.tokens
        elif isinstance(event, Finished):
            yield self._make_end(event.reply, "")

    def make_whole(self, reply: Reply) -> dict[str, Any]:
        """Return the answer as one object."""
        return self._make_end(reply, reply.text) | self._describe_tokens(self._tokens)

    def _describe_tokens(self, tokens: Sequence[SampledToken]) -> dict[str, Any]:
        return {"completion_probabilities": tokens_to_json(tokens)} if tokens else {}

    def _make_end(self, reply: Reply, text: str) -> dict[str, Any]:
        stop_type = "word" if reply.stop_string else "eos"
        return {
            "index": 0,
            "content": text,
            "tokens": list(reply.tokens) if self._return_tokens else [],
            "stop": True,
            "model": self._model,
            "tokens_predicted": reply.completion_tokens,
            "tokens_evaluated": reply.prompt_tokens,
            "prompt": self._prompt,
            "has_new_line": "\n" in reply.text,
            "truncated": reply.context_full,
            "stop_type": "limit" if reply.finish_reason == "length" else stop_type,
            "stopping_word": reply.stop_string,
            "tokens_cached": reply.reused_tokens,
            "timings": make_timings(reply),
            **describe_loops([reply]),
        }

"""Ollama's routes: /api/version, /api/tags, /api/show, /api/ps, /api/chat and /api/generate.

A body whose prompt is empty loads the model; with `keep_alive` 0 it unloads it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from g4cli import __version__
from g4cli.operations.serving.requests import TurnRequest
from g4cli.operations.serving.service import Service
from g4cli.server.body import ThreadedBodyRoute
from g4cli.server.media_data import limit_media
from g4cli.server.ollama_answer import (
    API_VERSION,
    OllamaStream,
    describe_details,
    describe_loaded,
    describe_offer,
    format_time,
    list_capabilities,
)
from g4cli.server.ollama_request import (
    ChatRequest,
    GenerateRequest,
    read_chat,
    read_generate,
    require_context,
    require_load_only,
)
from g4cli.server.streaming import (
    send_answer,
    send_json,
    start_first_turn,
    wait_for_result,
)
from g4cli.server.wire_model import RequestBody, ServiceParam

router = APIRouter(tags=["ollama"], route_class=ThreadedBodyRoute)


class ShowRequest(RequestBody):
    """The body of POST /api/show; `name` is the older name of `model`.

    Ollama's own program sends all of the fields, empty where it asks for nothing.
    """

    model: str = ""
    name: str = ""
    verbose: Literal[False] | None = None
    system: Literal[""] | None = None
    template: Literal[""] | None = None
    options: Annotated[dict[str, Any], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def require_model(self) -> ShowRequest:
        """Raise ValueError if no model is named."""
        if not (self.model or self.name):
            raise ValueError("model: this field is required")
        return self


@router.get("/api/version")
async def show_version() -> dict[str, str]:
    """Return the version of Ollama whose API this is, and that of g4."""
    return {"version": API_VERSION, "g4": __version__}


@router.get("/api/tags")
async def list_tags(service: ServiceParam) -> dict[str, Any]:
    """Return the models on offer."""
    return {"models": [describe_offer(model) for model in service.list_models()]}


@router.get("/api/ps")
async def list_loaded(service: ServiceParam) -> dict[str, Any]:
    """Return the models that are loaded."""
    models = service.list_models()
    return {"models": [describe_loaded(model) for model in models if model.loaded_at]}


@router.post("/api/show", response_model=None)
async def show_model(body: ShowRequest, service: ServiceParam) -> dict[str, Any]:
    """Return what is known of a model."""
    model = service.find_model(body.model or body.name)
    return {
        "details": describe_details(model),
        "model_info": {
            "general.architecture": "gemma4",
            "general.parameter_count": model.n_params,
            "gemma4.context_length": model.n_ctx or model.n_ctx_train,
        },
        "capabilities": list_capabilities(model),
        "modified_at": format_time(model.modified),
    }


@router.post("/api/chat", response_model=None)
async def chat(body: ChatRequest, request: Request, service: ServiceParam) -> Response:
    """Answer the last message of a conversation: as JSON lines, or as one object."""
    if not body.messages:
        return await _change_loading("chat", body, request, service)
    asked = await asyncio.to_thread(read_chat, body, limit_media(service.media))
    return await _answer_request("chat", body, asked, request, service)


@router.post("/api/generate", response_model=None)
async def generate(body: GenerateRequest, request: Request, service: ServiceParam) -> Response:
    """Answer a prompt: as JSON lines, or as one object."""
    if not body.prompt and not body.images:
        return await _change_loading("generate", body, request, service)
    asked = await asyncio.to_thread(read_generate, body, limit_media(service.media))
    return await _answer_request("generate", body, asked, request, service)


async def _answer_request(
    kind: Literal["chat", "generate"],
    body: ChatRequest | GenerateRequest,
    asked: TurnRequest,
    request: Request,
    service: Service,
) -> Response:
    """Return the response to `body`, which `asked` is a translation of."""
    started = time.perf_counter()
    turn, turns = await start_first_turn(request, service, asked)
    async with turns:
        require_context(body, turn.model.n_ctx)
        answer = OllamaStream(kind, body.model, started=started)
        return await send_answer(request, turn, turns.pop_all(), answer, whole=not body.stream)


async def _change_loading(
    kind: Literal["chat", "generate"],
    body: ChatRequest | GenerateRequest,
    request: Request,
    service: Service,
) -> Response:
    """Load the model of a request without a prompt, or unload it if `keep_alive` is 0."""
    require_load_only(body)
    answer = OllamaStream(kind, body.model, started=time.perf_counter())
    if body.keep_alive == 0:
        await service.unload(body.model)
        told = answer.make_loaded("unload")
    else:
        n_ctx = await wait_for_result(request, service.load(body.model, body.keep_alive))
        require_context(body, n_ctx)
        told = answer.make_loaded("load")
    if not body.stream:
        return send_json(told)
    return Response(answer.encode(told), media_type=answer.media_type)

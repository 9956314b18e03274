"""The FastAPI application: routers of all wire formats behind the guard.

A wire format is a file here with a `router` (fastapi.APIRouter) in ROUTERS. Its routes take a
pydantic model (`wire_model.RequestBody`), translate it to a TurnRequest, and run it by
`service.start_turn`. Errors of g4 are raised as they are: `errors.explain_error` gives them a
status and the form of the API that the path belongs to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from g4cli import __version__
from g4cli.core.errors import G4Error
from g4cli.operations.serving.service import Service
from g4cli.server import (
    anthropic_messages,
    llama_server,
    models,
    monitoring,
    ollama_api,
    openai_chat,
    openai_completions,
    responses_api,
    transcriptions,
)
from g4cli.server.errors import ERRORS, explain_and_log
from g4cli.server.guard import Guard, GuardOptions, Served
from g4cli.server.page_routes import answers, conversations, drawings, files
from g4cli.server.page_routes import models as page_models
from g4cli.server.page_routes.access import Page

ROUTERS: Final = (
    models.router,
    openai_chat.router,
    openai_completions.router,
    responses_api.router,
    anthropic_messages.router,
    ollama_api.router,
    transcriptions.router,
    llama_server.router,
    monitoring.router,
    files.router,
    conversations.router,
    page_models.router,
    answers.router,
    drawings.router,
    drawings.frames,
)


def make_app(
    service: Service,
    options: GuardOptions,
    log: Callable[[Served], None] = lambda _: None,
    *,
    private: bool = False,
) -> ASGIApp:
    """Return the ASGI application that serves `service`.

    `log` is called with each request when it was answered. `private`: the page forgets its
    conversations when the server ends.
    """
    api = make_api(service, private=private)

    async def answer_with_media(scope: Scope, receive: Receive, send: Send) -> None:
        # The files that a request's images and sounds are stored in are deleted when it ends,
        # whether it was answered or refused.
        with service.media.hold_request():
            await api(scope, receive, send)

    return Guard(answer_with_media, options, log)


def make_api(service: Service, *, private: bool = False) -> FastAPI:
    """Return the routes without the guard; the arguments are those of `make_app`."""
    page = Page(service, private=private)

    @asynccontextmanager
    async def close_service(_: FastAPI) -> AsyncIterator[None]:
        yield
        await page.close()
        await service.close()

    api = FastAPI(
        title="g4",
        version=__version__,
        description="Gemma 4 on llama.cpp for other programs.",
        docs_url=None,  # FastAPI's two pages of documentation load scripts from another host
        redoc_url=None,
        lifespan=close_service,
    )
    api.state.service, api.state.page = service, page
    for router in ROUTERS:
        api.include_router(router)
    # HttpError is an HTTPException. `Exception` alone would do, but Starlette raises what it
    # catches for that once more, after the answer.
    for kind in (G4Error, HTTPException, RequestValidationError, RecursionError, Exception):
        api.add_exception_handler(kind, _answer_error)
    api.openapi_schema = _document_errors(api.openapi())
    return api


def _document_errors(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema`, the description of the API, changed in place to say what g4 answers.

    The statuses of errors are added. FastAPI documents 422 for invalid requests; here it is 400, as
    OpenAI's clients expect. An answer that may be streamed has a second media type: JSON lines
    below /api (Ollama's routes), server-sent events elsewhere.
    """
    errors = {
        str(status): {"description": text, "content": {"application/json": {"schema": {}}}}
        for status, text in ERRORS.items()
    }
    for path, operations in schema["paths"].items():
        stream = "application/x-ndjson" if path.startswith("/api/") else "text/event-stream"
        for operation in operations.values():
            operation["responses"].pop("422", None)
            if _may_stream(operation, schema["components"]["schemas"]):
                operation["responses"]["200"]["content"][stream] = {"schema": {"type": "string"}}
            operation["responses"] |= errors
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name)
    return schema


def _may_stream(operation: dict[str, Any], schemas: dict[str, Any]) -> bool:
    """Return whether the JSON body of a request has the field `stream`."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    return "stream" in schemas.get(name, {}).get("properties", {})


async def _answer_error(request: Request, err: Exception) -> Response:
    path = request.url.path
    problem = explain_and_log(err, request.method, path)
    return JSONResponse(problem.as_body(path), problem.status, dict(problem.headers))

"""Errors as HTTP answers: the tree of `g4cli.core.errors` by status, in the form that each API has.

OpenAI      {"error": {"message": ..., "type": ..., "param": ..., "code": ...}}
Anthropic   {"type": "error", "error": {"type": ..., "message": ...}}     below /v1/messages
Ollama      {"error": "..."}                                              below /api
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from g4cli.core.errors import (
    BadField,
    BadMedia,
    ContextFull,
    DoesNotFit,
    G4Error,
    Interrupted,
    NotFound,
    QueueFull,
    UsageError,
)

RETRY_AFTER_S: Final = 1  # a choice: a slot is often free within a second
_LOG: Final = logging.getLogger("g4.serve")
ERRORS: Final[Mapping[int, str]] = {
    400: "The request cannot be obeyed; the error names the field.",
    401: "A valid API key is needed.",
    403: "This host or this web page may not use the server.",
    404: "There is no such model or endpoint.",
    405: "The endpoint has another method.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    500: "The model failed; the next request starts it again.",
    503: "The server is busy, loading, or being stopped: try again after Retry-After.",
}
"""The statuses of errors that every endpoint may answer with."""
_INVALID: Final = "invalid_request_error"
# Status -> the `type` of an error in OpenAI's form; of statuses that are missing: "server_error".
# Anthropic has other names for two of them, and "api_error" for those that are missing.
_OPENAI_TYPES: Final[Mapping[int, str]] = {
    400: _INVALID,
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: _INVALID,
    408: "timeout_error",
    413: _INVALID,
    503: "unavailable_error",
}
_ANTHROPIC_TYPES: Final[Mapping[int, str]] = {
    **_OPENAI_TYPES,
    413: "request_too_large",
    503: "overloaded_error",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What a client is told of an error.

    `message` is a sentence, `param` the path of the field at fault, such as "messages.0.content",
    and `code` a stable name for programs: OpenAI's own where it has one, otherwise g4's.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_body(self, path: str) -> dict[str, Any]:
        """Return the JSON body in the form of the API that `path` belongs to."""
        if path.startswith("/v1/messages"):
            kind = _ANTHROPIC_TYPES.get(self.status, "api_error")
            return {"type": "error", "error": {"type": kind, "message": self.message}}
        if path.startswith("/api/"):
            return {"error": self.message}
        kind = _OPENAI_TYPES.get(self.status, "server_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


class HttpError(HTTPException):
    """An error that only HTTP knows, such as a wrong key or a body that is too large."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.message, dict(problem.headers))
        self.problem = problem


def explain_error(err: BaseException) -> Problem:
    """Return what a client is told of `err`; of a bug in g4 only that it is one."""
    if isinstance(err, HttpError):
        return err.problem
    if isinstance(err, RequestValidationError):
        return _explain_invalid(err.errors(), err.body)
    if isinstance(err, HTTPException):
        return Problem(err.status_code, str(err.detail), headers=err.headers or {})
    if isinstance(err, RecursionError):
        return Problem(400, "the request is nested too deeply", code="too-deep")
    # The model's process reports a bug as "error", with its traceback as the message.
    if not isinstance(err, G4Error) or err.reference == "error":
        return Problem(500, "a bug in g4; the server's log has the details", code="error")
    if isinstance(err, ContextFull):  # param and code of this and the next are OpenAI's
        return Problem(400, err.message, "messages", "context_length_exceeded")
    if isinstance(err, NotFound):
        return Problem(404, err.message, "model", "model_not_found")
    if isinstance(err, (UsageError, BadMedia)):
        param = err.field if isinstance(err, BadField) else None
        return Problem(400, err.message, param, err.reference)
    # Interrupted may have none: somebody else has stopped the work.
    message = err.message or "the server is being stopped"
    if isinstance(err, (QueueFull, DoesNotFit, Interrupted)):
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        return Problem(503, message, code=err.reference, headers=headers)
    return Problem(500, message, code=err.reference)


def explain_and_log(err: Exception, method: str, path: str) -> Problem:
    """Return what a client is told of `err`; if it is a bug, log it with the request's line."""
    problem = explain_error(err)
    if problem.code == "error":
        _LOG.error("a bug in g4 at %s %r", method, path, exc_info=err)
    return problem


def make_invalid_error(err: ValidationError, body: Any) -> RequestValidationError:
    """Return `err`, of a body that g4 has validated itself, in the form of FastAPI's own errors.

    FastAPI begins the path of a field with "body". Only the first error is told to clients.
    """
    first = err.errors()[0]
    return RequestValidationError([{**first, "loc": ("body", *first["loc"])}], body=body)


def _explain_invalid(errors: Sequence[Any], body: Any) -> Problem:
    """Return the first of pydantic's `errors` about `body`, which is None if there was none."""
    first = errors[0]
    name = _find_field(first["loc"], body)
    kind, text = first["type"], str(first["msg"])
    if not name and body is None and kind == "missing":
        return Problem(400, "a JSON body is needed", code="bad-json")
    if kind == "json_invalid":
        reason = first.get("ctx", {}).get("error", text)
        return Problem(400, f"the body is not valid JSON: {reason}", code="bad-json")
    if kind == "extra_forbidden":
        text = "this field is unknown to g4"
    elif kind == "missing":
        text = "this field is required"
    else:
        text = text.removeprefix("Value error, ")
    return Problem(400, f"{name}: {text}" if name else text, name or None, "bad-field")


def _find_field(location: Sequence[Any], body: Any) -> str:
    """Return the path in `body` of the field that pydantic's `location` names.

    `location` has a step more for each union: the name of the alternative ("list[str]", the tag of
    a union with tags). A step belongs to the path if `body` has it there. The last one may also be
    a field that an object lacks; one with "[" is the name of a type.
    """
    skipped = ("body", "query", "path")
    steps = list(location[1:] if location and location[0] in skipped else location)
    names, value = [], body
    for index, step in enumerate(steps):
        if (isinstance(value, Mapping) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value)
        ):
            value = value[step]
        elif index < len(steps) - 1 or not isinstance(value, Mapping) or "[" in str(step):
            continue
        names.append(str(step))
    return ".".join(names)

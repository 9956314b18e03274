"""Large JSON bodies are read in a thread, so that other clients get their tokens meanwhile.

Python's JSON reader in C holds the interpreter from the first byte to the last, in a thread too: 64
MiB of numbers stop all other requests for seconds. So large bodies are read by the same reader
written in Python (`json.scanner.py_make_scanner`), which lets other threads go on between two
values, and long strings, such as images, are read in pieces. Before that, a body with more commas
than a prompt has that fits a context is refused.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from json.decoder import scanstring  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any, Final, get_type_hints

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from g4cli.core.units import MIB
from g4cli.server.errors import make_invalid_error
from g4cli.server.limits import MAX_COMMAS
from g4cli.server.wire_model import RequestBody

_SMALL_BYTES: Final = 16 * 1024
"""Up to this size a body is read at once: it takes less than a millisecond."""
# Characters that stand for themselves within a JSON string.
_PLAIN_TEXT: Final = re.compile(r'[^"\\\x00-\x1f]*')
_PIECE: Final = 1 << 20  # characters, read within a millisecond


class ThreadedBodyRoute(APIRoute):
    """A route whose body, a RequestBody, is read and checked in a thread if it is large."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests."""
        handle = super().get_route_handler()
        types = get_type_hints(self.endpoint).values()
        models = [t for t in types if isinstance(t, type) and issubclass(t, RequestBody)]
        if not models:
            return handle

        async def handle_body(request: Request) -> Response:
            body = await request.body()
            if len(body) <= _SMALL_BYTES or not _is_json(request):
                return await handle(request)
            value = await asyncio.to_thread(read_body, body, models[0])
            return await handle(_ReadRequest(request, value))

        return handle_body


def read_body(body: bytes, model: type[RequestBody]) -> RequestBody:
    """Return `body`, JSON, as `model`. Raises RequestValidationError or RecursionError."""
    n_commas = sum(body[start : start + MIB].count(b",") for start in range(0, len(body), MIB))
    if n_commas > MAX_COMMAS:
        what = f"the body has {n_commas:,} commas; at most {MAX_COMMAS:,}"
        raise RequestValidationError([{"type": "value_error", "loc": ("body",), "msg": what}])
    value = None
    try:
        value = parse_json_body(body)
        return model.model_validate(value)
    except ValidationError as err:
        raise make_invalid_error(err, value) from None
    except ValueError as err:  # UnicodeDecodeError too
        reason = err.msg if isinstance(err, json.JSONDecodeError) else "it is not UTF-8"
        error = {"type": "json_invalid", "loc": ("body",), "msg": "", "ctx": {"error": reason}}
        raise RequestValidationError([error]) from None


class _ReadRequest(Request):
    """A request whose body has been read already."""

    def __init__(self, request: Request, value: RequestBody) -> None:
        super().__init__(request.scope, request.receive)
        self._value = value

    async def body(self) -> bytes:
        return b"{}"  # FastAPI only looks whether there is one

    async def json(self) -> Any:
        return self._value  # pydantic takes an instance of the model as it is


def _scan_string(text: str, start: int, strict: bool = True) -> tuple[str, int]:
    """Return the string that begins at `start`, and where it ends: `scanstring` in pieces."""
    pieces = []
    while len(text) - start > _PIECE:
        match = _PLAIN_TEXT.match(text, start, start + _PIECE)
        end = match.end() if match else start
        if end < start + _PIECE:
            break
        pieces.append(text[start:end])
        start = end
    last, end = scanstring(text, start, strict)
    return "".join([*pieces, last]) if pieces else last, end


def _is_json(request: Request) -> bool:
    """Return whether the body is JSON by its type, such as application/json."""
    return request.headers.get("content-type", "").partition(";")[0].strip().endswith("json")


def parse_json_body(body: bytes) -> Any:
    """Return the value of a JSON text, in time linear in its length. Raises ValueError.

    Encodings are those of `json.loads`, which reads small bodies: UTF-8, 16 or 32, with or without
    a byte order mark.
    """
    # The scanner in Python calls `parse_string` of its decoder, and `decode` calls `scan_once`.
    decoder: Any = json.JSONDecoder()
    decoder.parse_string = _scan_string
    decoder.scan_once = py_make_scanner(decoder)
    return decoder.decode(body.decode(json.detect_encoding(body), "surrogatepass"))

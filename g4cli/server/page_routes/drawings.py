"""Drawings in answers: checked, repaired, and shown in an iframe that runs nothing.

The iframe cannot send a key, so a drawing has a name that cannot be guessed: an HMAC of its text
with a secret of this server. Its document holds the drawing as an image in a data URI. So three
walls stand between a drawing and the page: what is unsafe was removed by the repair, an image runs
no script and loads nothing, and the iframe's sandbox and policy allow neither.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections import OrderedDict
from types import MappingProxyType
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from g4cli.core.errors import NotFound
from g4cli.operations.svg import CheckedDrawing, check_drawing, render_drawing
from g4cli.server.page_routes.access import make_page_router
from g4cli.server.wire_model import RequestBody

router = make_page_router()
frames = APIRouter(include_in_schema=False)  # without the check of access: see above
# Choices.
_KEPT: Final = 64  # drawings in memory, the newest; the page checks an older one again
_PNG_SIDE: Final = 2048  # pixels of the larger side
_NAME_DIGITS: Final = 40  # of an HMAC in hexadecimal: 160 bits
_HEADERS: Final = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, max-age=3600",
    }
)
_DOCUMENT: Final = (
    '<!DOCTYPE html><html lang="en"><title>Drawing</title><style>html,body{margin:0;height:100%;'
    "background:#fff}img{width:100%;height:100%;object-fit:contain;display:block}</style>"
    '<img alt="Drawing" src="data:image/svg+xml;base64,@"></html>'
)
_secret: Final = secrets.token_bytes(32)
_drawings: Final[OrderedDict[str, CheckedDrawing]] = OrderedDict()
_checking: Final = asyncio.Semaphore(2)  # each check computes in a process of its own


class DrawingBody(RequestBody):
    """The part of an answer with the drawing."""

    text: str


@router.post("/drawings")
async def check(body: DrawingBody) -> dict[str, Any]:
    """Return what the check of a drawing found, and the repaired text.

    `shown`: it renders, so that there is something for the iframe; `blank`: but it shows nothing.
    """
    text = body.text.encode("utf-8", "replace")
    name = hmac.new(_secret, text, hashlib.sha256).hexdigest()[:_NAME_DIGITS]
    checked = _drawings.pop(name, None)
    if checked is None:
        async with _checking:
            checked = await asyncio.to_thread(check_drawing, body.text, "the drawing")
    _drawings[name] = checked
    if len(_drawings) > _KEPT:
        _drawings.popitem(last=False)
    proof = checked.proof
    renders = proof is not None and not proof.parse_error and not proof.render_error
    return {
        **checked.as_json(),
        "id": name,
        "text": checked.drawing.text,
        "shown": renders,
        "blank": renders and not checked.works,
    }


@frames.get("/page/drawings/{name}")
async def send_frame(name: str) -> Response:
    """Return the document of the iframe that shows a drawing. Raises NotFound."""
    text = (_find(name).drawing.text or "").encode("utf-8", "replace")
    document = _DOCUMENT.replace("@", base64.b64encode(text).decode())
    return Response(document, headers=dict(_HEADERS), media_type="text/html")


@router.get("/drawings/{name}/png")
async def send_png(name: str) -> Response:
    """Return a drawing as PNG. Raises NotFound or RuntimeFailed."""
    async with _checking:
        data = await asyncio.to_thread(render_drawing, _find(name).drawing, most=_PNG_SIDE)
    return Response(data, media_type="image/png")


def _find(name: str) -> CheckedDrawing:
    checked = _drawings.get(name)
    if checked is None:
        raise NotFound("this drawing is no longer here: reload the page")
    return checked

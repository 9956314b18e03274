"""The files of the page: read once, and sent with rules that let nothing foreign run in it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from g4cli.server.errors import HttpError, Problem

FOLDER: Final = Path(__file__).resolve().parents[1] / "page"
_TYPES: Final = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
)
# No script, style, frame or request but this server's own, and no HTML becomes part of the page but
# by the one policy in html.js (https://www.w3.org/TR/CSP3/, https://www.w3.org/TR/trusted-types/).
CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; frame-src 'self'; worker-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types g4"
)
HEADERS: Final = MappingProxyType(
    {
        "Content-Security-Policy": CONTENT_POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
        "Cache-Control": "no-cache",
    }
)

router = APIRouter(include_in_schema=False)


@cache
def read_files() -> dict[str, tuple[bytes, str]]:
    """Return the files of the page by name: their content, and an ETag that changes with it."""
    return {
        path.name: (data, f'"{hashlib.sha256(data).hexdigest()[:20]}"')
        for path in sorted(FOLDER.iterdir())
        if path.suffix in _TYPES
        for data in (path.read_bytes(),)
    }


@router.get("/")
async def send_page(request: Request) -> Response:
    """Return the page."""
    return _send_file("index.html", request)


@router.get("/page/{name}")
async def send_page_file(name: str, request: Request) -> Response:
    """Return one of its files."""
    return _send_file(name, request)


def _send_file(name: str, request: Request) -> Response:
    if name not in read_files():
        raise HttpError(Problem(404, "the page has no such file", code="not-found"))
    data, etag = read_files()[name]
    headers = {**HEADERS, "ETag": etag}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=_TYPES[Path(name).suffix])

"""The files of the page: read once, and sent with rules that let nothing foreign run in it.

The style sheets are sent inside of the page: a browser paints nothing before it has them, and to
fetch them takes it as long again as to fetch the page.
"""

from __future__ import annotations

import base64
import hashlib
import re
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
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
)
_STYLE_LINK: Final = re.compile(r'<link rel="stylesheet" href="/page/([\w.]+)">')
_STYLE: Final = re.compile(rb"<style>(.*?)</style>", re.DOTALL)

router = APIRouter(include_in_schema=False)


@cache
def read_files() -> dict[str, tuple[bytes, str]]:
    """Return the files of the page by name: their content, and an ETag that changes with it."""
    contents = {
        path.name: path.read_bytes()
        for path in sorted(FOLDER.iterdir())
        if path.suffix in _TYPES
    }  # fmt: skip
    contents["index.html"] = _STYLE_LINK.sub(
        lambda link: f"<style>{(FOLDER / link[1]).read_text(encoding='utf-8')}</style>",
        contents["index.html"].decode(),
    ).encode()
    return {
        name: (data, f'"{hashlib.sha256(data).hexdigest()[:20]}"')
        for name, data in contents.items()
    }


@cache
def make_headers() -> dict[str, str]:
    """Return the headers of every file of the page, the content security policy among them.

    No script, style, frame or request but this server's own, and no HTML becomes part of the page
    but by the one policy in dom.js. A style sheet inside of the page is allowed by its hash
    (https://www.w3.org/TR/CSP3/, https://www.w3.org/TR/trusted-types/).
    """
    styles = _STYLE.findall(read_files()["index.html"][0])
    digests = (hashlib.sha256(style).digest() for style in styles)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    policy = (
        f"default-src 'none'; script-src 'self'; style-src {hashes}; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; frame-src 'self'; worker-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types g4"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
        "Cache-Control": "no-cache",
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
    headers = {**make_headers(), "ETag": etag}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=_TYPES[Path(name).suffix])

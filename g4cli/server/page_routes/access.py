"""Who may call the routes of the page, and what they share.

A key, where the server wants one, comes with each request as for every other route (`guard`). In
addition a page of another origin may not call these routes, even one that `--cors-origin` lets use
the models: conversations are nobody else's. Browsers name that origin, or say by Sec-Fetch-Site
that a form or an image of another page sends the request. Old ones say neither. Against those every
request that changes something carries a token that only the page of this server can read. What only
reads needs none: no browser shows a page the answer of another origin.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Annotated, Final, TypeAlias

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.requests import Request

from g4cli.operations.page.conversations import PageConversations
from g4cli.operations.page.pulls import Pulls
from g4cli.operations.serving.service import Service
from g4cli.server.errors import HttpError, Problem

TOKEN_HEADER: Final = "x-g4-token"
_READING: Final = ("GET", "HEAD")  # methods that change nothing


class Page:
    """What the routes of the page share, for as long as the server runs."""

    def __init__(self, service: Service, *, private: bool = False) -> None:
        """`private`: anybody in the network may call, so that nothing is kept or pulled."""
        self.service, self.private = service, private
        self.token = secrets.token_urlsafe(32)
        self.conversations = PageConversations(service, private=private)
        self.pulls = Pulls()

    async def close(self) -> None:
        """Stop and save the answers under way, and stop the pulls."""
        await self.conversations.close()
        await self.pulls.close()


def check_access(request: Request) -> None:
    """Raise HttpError unless the request comes from this server's own page, or from no page."""
    headers = request.headers
    origin = headers.get("origin", "")
    is_foreign = origin and origin.partition("://")[2].lower() != headers.get("host", "").lower()
    if is_foreign or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise HttpError(Problem(403, "other pages may not use this route", code="origin"))
    if request.method in _READING:
        return
    given = headers.get(TOKEN_HEADER, "").encode()
    if not hmac.compare_digest(given, find_page(request).token.encode()):
        raise HttpError(Problem(403, "the page's token is missing or old", code="page-token"))


def find_page(request: Request) -> Page:
    """Return what the routes of the page share."""
    page: Page = request.app.state.page
    return page


def make_page_router() -> APIRouter:
    """Return a router for routes below /page/api, each of which `check_access` guards."""
    return APIRouter(
        prefix="/page/api", dependencies=[Depends(check_access)], include_in_schema=False
    )


RowId: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 63)]
"""An id in the database, whose integers have 64 bits."""
PageParam = Annotated[Page, Depends(find_page)]
"""What the routes of the page share, as a parameter of a route."""

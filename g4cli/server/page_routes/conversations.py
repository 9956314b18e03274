"""Conversations of the page: list, search, open, rename, branch, delete; images and sounds."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from pydantic import Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from g4cli import __version__
from g4cli.core.errors import NotFound
from g4cli.server.page_routes.access import PageParam, RowId, make_page_router
from g4cli.server.page_routes.turns import describe_conversation
from g4cli.server.wire_model import RequestBody

router = make_page_router()
# The page's script takes an image whatever its type; players find the format of a sound themselves.
_TYPES: Final = {"image": "application/octet-stream", "audio": "audio/wav"}
# A file is shown by the page's own script only: opened alone it is a download.
_FILE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Content-Disposition": "attachment",
    "Cache-Control": "private, max-age=86400, immutable",
}


class ConversationBody(RequestBody):
    """What is changed of a conversation; null: nothing. `branch`: a turn of the branch to show."""

    system: Annotated[str, Field(max_length=1 << 20)] | None = None
    title: Annotated[str, Field(max_length=1000)] | None = None
    branch: RowId | None = None


@router.get("/start")
async def start_page(page: PageParam) -> dict[str, Any]:
    """Return what the page needs first: its token, the version, whether conversations are kept."""
    return {"token": page.token, "version": __version__, "private": page.private}


@router.get("/conversations")
async def list_conversations(page: PageParam, search: str = "") -> dict[str, Any]:
    """Return the conversations with the words of `search`, the newest first."""
    hits = await page.conversations.list(search)
    running = {answer.conversation for answer in page.conversations.answers.values()}
    return {
        "conversations": [
            {
                "id": hit.summary.id,
                "title": hit.summary.title,
                "updated": hit.summary.updated,
                "model": hit.summary.model,
                "excerpt": hit.excerpt,
                "running": hit.summary.id in running,
            }
            for hit in hits
        ]
    }


@router.post("/conversations")
async def create_conversation(body: ConversationBody, page: PageParam) -> dict[str, Any]:
    """Return the id of a new conversation."""
    return {"id": await page.conversations.create(body.system or "")}


@router.get("/conversations/{conversation}")
async def open_conversation(conversation: RowId, page: PageParam) -> dict[str, Any]:
    """Return a conversation with the branch that is shown."""
    running = [
        answer
        for answer in page.conversations.answers.values()
        if answer.conversation == conversation
    ]
    found = await page.conversations.load(conversation)
    return await asyncio.to_thread(describe_conversation, found, running)


@router.post("/conversations/{conversation}")
async def change_conversation(
    conversation: RowId, body: ConversationBody, page: PageParam
) -> dict[str, Any]:
    """Change the system prompt, the title, or the branch that is shown."""
    await page.conversations.change(
        conversation, system=body.system, title=body.title, branch=body.branch
    )
    return {}


@router.delete("/conversations/{conversation}")
async def delete_conversation(conversation: RowId, page: PageParam) -> dict[str, Any]:
    """Delete a conversation with all of its branches."""
    await page.conversations.delete(conversation)
    return {}


@router.delete("/conversations/{conversation}/turns/{turn}")
async def delete_turn(conversation: RowId, turn: RowId, page: PageParam) -> dict[str, Any]:
    """Delete a turn with all that follow it; `left`: whether the conversation has any other."""
    return {"left": await page.conversations.delete_turn(conversation, turn)}


@router.post("/media")
async def keep_media(request: Request, page: PageParam) -> dict[str, Any]:
    """Keep the image or sound that is the body; return its kind and name for a question."""
    media = await page.conversations.keep_media(await request.body())
    return {"kind": media.kind, "name": media.path.name}


@router.get("/conversations/{conversation}/turns/{turn}/media/{number}")
async def send_media(conversation: RowId, turn: RowId, number: int, page: PageParam) -> Response:
    """Return an image or a sound of a turn."""
    media = await page.conversations.find_media(conversation, turn, number)
    if not media.path.is_file():
        raise NotFound("the file of this image or sound was moved or deleted")
    return FileResponse(media.path, media_type=_TYPES[media.kind], headers=_FILE_HEADERS)

"""Read and check the files that a chat request names, before the model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from g4cli.chat import Conversation
from g4cli.core.errors import UsageError
from g4cli.core.files import require_file
from g4cli.core.gbnf import check_grammar
from g4cli.core.json_schema import parse_schema
from g4cli.core.media_file import read_media
from g4cli.core.units import size_text
from g4cli.operations.chat.request import ChatRequest
from g4cli.prompt.messages import Media
from g4cli.prompt.tools import parse_tools

_MAX_TEXT_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class ChatInputs:
    """The contents of --tools, --grammar (GBNF) and --json-schema, empty if not given."""

    tools: tuple[Mapping[str, Any], ...] = ()
    grammar: str = ""
    json_schema: str = ""


def read_inputs(request: ChatRequest) -> ChatInputs:
    """Return the contents of the text files of `request`; its other files are only checked.

    Raises FileMissing, BadMedia, or UsageError for a malformed text and for options that exclude
    each other.
    """
    if request.json_schema and request.grammar:
        raise UsageError("--json-schema and --grammar exclude each other")
    if (request.json_schema or request.grammar) and request.think != "off":
        raise UsageError("a grammar or schema cannot be used with --think", hint="--think off")
    if request.mmproj:
        require_file(request.mmproj.expanduser())
    for path in request.image:
        read_media(path, "image")
    for path in request.audio:
        read_media(path, "audio")
    tools = parse_tools(_read_text(request.tools)) if request.tools else ()
    grammar = _read_text(request.grammar) if request.grammar else ""
    if request.grammar:
        check_grammar(grammar)
    json_schema = _read_text(request.json_schema) if request.json_schema else ""
    if request.json_schema:
        parse_schema(json_schema)
    return ChatInputs(tools, grammar, json_schema)


def find_conversation(request: ChatRequest) -> Conversation:
    """Return the conversation to continue: that of the request, or an empty one."""
    if request.conversation is not None:
        return request.conversation
    return Conversation(request.system)


def list_requested_media(request: ChatRequest) -> tuple[Media, ...]:
    """Return the images and audio files of the request, with absolute paths."""
    return (
        *(Media("image", path.expanduser().absolute()) for path in request.image),
        *(Media("audio", path.expanduser().absolute()) for path in request.audio),
    )


def _read_text(path: Path) -> str:
    path = require_file(path.expanduser())
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise UsageError(f"{path} is too large ({size_text(path.stat().st_size)})")
    return path.read_text(encoding="utf-8", errors="replace")

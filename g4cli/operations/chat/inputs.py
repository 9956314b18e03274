"""Read and check the files that a chat request names, before the model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from g4cli.core.errors import UsageError
from g4cli.core.files import read_text, require_file
from g4cli.core.json_schema import expand_short_schema
from g4cli.core.media_file import read_media
from g4cli.core.paths import expand_home
from g4cli.operations.chat.request import ChatRequest
from g4cli.prompt.answer_grammar import AnswerForm, make_call_grammar, make_grammar
from g4cli.prompt.messages import Media
from g4cli.prompt.tools import parse_tools
from g4cli.runtime.engine.options import GrammarScope

_MAX_TEXT_BYTES: Final = 64 << 20  # a choice: of a file of tools, a schema or a grammar


@dataclass(frozen=True, slots=True)
class ChatInputs:
    """The tools of --tools, and the grammar (llguidance's JSON) of what answers may be, or None.

    `grammar_scope`: which part of an answer must belong to it while the model does not think.
    """

    tools: tuple[Mapping[str, Any], ...] = ()
    grammar: str | None = None
    grammar_scope: GrammarScope = "all"

    @property
    def has_form(self) -> bool:
        """Whether the whole answer is restricted, not just calls of tools."""
        return self.grammar is not None and self.grammar_scope == "all"


def read_inputs(request: ChatRequest) -> ChatInputs:
    """Return the contents of the text files of `request`; its other files are only checked.

    Raises FileMissing, BadMedia, or UsageError for a malformed text and for options that exclude
    each other.
    """
    form = read_form(request)
    if request.mmproj:
        require_file(expand_home(request.mmproj))
    for path in request.image:
        read_media(path, "image")
    for path in request.audio:
        read_media(path, "audio")
    tools = parse_tools(_read_text(request.tools)) if request.tools else ()
    tools = (*tools, *request.declarations)
    if form is not None:
        return ChatInputs(tools, make_grammar(form, tools))
    return ChatInputs(tools, make_call_grammar(tools), "calls") if tools else ChatInputs()


def read_form(request: ChatRequest) -> AnswerForm | None:
    """Return what --json-schema, --schema, --grammar or --regex say of the answer, None without.

    Raises FileMissing, or UsageError if there are several of them.
    """
    if len(request.forms) > 1:
        raise UsageError(f"{' and '.join(request.forms)} cannot be used together")
    if request.json_schema_text:
        return AnswerForm("json_schema", request.json_schema_text)
    if request.json_schema:
        return AnswerForm("json_schema", _read_text(request.json_schema))
    if request.schema:
        return AnswerForm("json_schema", expand_short_schema(request.schema))
    if request.grammar:
        kind: Literal["lark", "gbnf"] = "lark" if request.grammar.suffix == ".lark" else "gbnf"
        return AnswerForm(kind, _read_text(request.grammar))
    return AnswerForm("regex", request.regex) if request.regex else None


def list_requested_media(request: ChatRequest) -> tuple[Media, ...]:
    """Return the images and audio files of the request, with absolute paths."""
    return (
        *(Media("image", expand_home(path).absolute()) for path in request.image),
        *(Media("audio", expand_home(path).absolute()) for path in request.audio),
    )


def _read_text(path: Path) -> str:
    text = read_text(expand_home(path), _MAX_TEXT_BYTES)
    return text.replace("\r\n", "\n").replace("\r", "\n")

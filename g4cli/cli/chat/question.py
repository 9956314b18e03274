"""The prompt of a single question: from the command line, a file, or standard input."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from g4cli.core.errors import FileMissing, UsageError
from g4cli.core.files import read_text
from g4cli.core.paths import expand_home
from g4cli.core.quoting import shell_word

if TYPE_CHECKING:
    from g4cli.cli.output import Output
    from g4cli.operations.chat.request import ChatRequest

_AT: Final = "@"
# A choice: characters of standard input. The largest context, 262,144 tokens, holds a million.
MAX_PIPED: Final = 16 << 20


def read_question(out: Output, request: ChatRequest, prompt: str | None) -> str | None:
    """Return the only question, or None for a conversation.

    Raises UsageError if the question is empty, or if there is no terminal for a conversation.

    Text from standard input goes before --prompt, as in llm (https://llm.datasette.io). The prompt
    "-" stands for that text alone.
    """
    if prompt is None and sys.stdin.isatty():
        if out.mode == "json" or not sys.stdout.isatty():
            raise UsageError(
                "a conversation needs a terminal",
                hint=f'g4 chat {shell_word(request.model)} -p "..."',
            )
        return None
    piped = _read_stdin() if prompt == "-" or not sys.stdin.isatty() else ""
    if prompt is None or prompt == "-":
        question = piped
    else:
        prompt = read_at_file(prompt)
        question = f"{piped.rstrip()}\n\n{prompt}" if piped.strip() else prompt
    if not question.strip():
        raise UsageError(
            "the question is empty", hint=f'g4 chat {shell_word(request.model)} -p "What is GGUF?"'
        )
    return question


def read_piped_schema(prompt: str | None) -> str:
    """Return the JSON schema on standard input.

    Raises UsageError if a terminal is there, or if the question would have to come from it too.
    """
    if sys.stdin.isatty() or prompt is None or prompt == "-":
        raise UsageError(
            "--json-schema - takes the schema from standard input, and needs --prompt",
            hint='g4 chat tiny --json-schema - -p "What is GGUF?" < schema.json',
        )
    return _read_stdin()


def _read_stdin() -> str:
    """Return standard input, read to its end. Raises UsageError if it is larger than any prompt."""
    text = sys.stdin.read(MAX_PIPED + 1)
    if len(text) > MAX_PIPED:
        raise UsageError(
            f"standard input has more than {MAX_PIPED:,} characters", hint="head -c 1000000 FILE"
        )
    return text


def read_at_file(text: str) -> str:
    """Return the content of the file if `text` is @FILE, else `text`; "@@" stands for an "@".

    Raises FileMissing, or UsageError if the file is larger than any prompt.
    """
    if not text.startswith(_AT):
        return text
    if text.startswith(_AT * 2):
        return text[1:]
    path = expand_home(text[1:])
    try:
        return read_text(path, MAX_PIPED)
    except FileMissing as err:
        raise FileMissing(
            path, hint=f"for a text that begins with @: {shell_word(_AT + text)}"
        ) from err

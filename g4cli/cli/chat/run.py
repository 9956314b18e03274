"""Run `g4 chat`: answer one question, or hold conversations, with the next model after /model."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from g4cli.core.errors import G4Error, UsageError
from g4cli.core.quoting import shell_word
from g4cli.operations.chat.saved import LIST
from g4cli.store import find_model_path, find_newest_model

if TYPE_CHECKING:
    from g4cli.cli.options.chat import ChatDisplay
    from g4cli.cli.output import Output
    from g4cli.operations.chat.recording import ChatRecorder
    from g4cli.operations.chat.request import ChatRequest
    from g4cli.operations.chat.session import ChatSession

# Characters of standard input; a context of 262,144 tokens holds about a million.
_MAX_PIPED: Final = 16 << 20


def run_chat(
    out: Output,
    request: ChatRequest,
    prompt: str | None,
    display: ChatDisplay,
    *,
    resume: str | None = None,
) -> int:
    """Return the exit code of `g4 chat`; `prompt` and `resume` are the values of these options.

    An empty `request.model` stands for the model that was pulled last. If the model that /model
    named cannot be opened, the previous one is opened again.
    """
    if resume == LIST:
        from g4cli.cli.views.saved_chats import draw_newest_chats

        draw_newest_chats(out)
        return 0
    known_model = ""
    if resume is not None:
        from g4cli.cli.chat.resume import resume_chat

        conversation, known_model = resume_chat(out, resume)
        conversation.system = request.system or conversation.system
        request = replace(request, conversation=conversation)
    if not request.model:
        request = replace(request, model=_choose_model(out, known_model))
    if display.drawing is not None:
        from g4cli.operations.svg import require_drawing_target

        require_drawing_target(display.drawing)
    find_model_path(request.model)  # an unknown name is reported before standard input is read
    if str(request.json_schema) == "-":
        request = replace(request, json_schema=None, json_schema_text=_read_schema(prompt))
        question = prompt
    else:
        question = _read_question(out, request, prompt)
    if question is None and display.drawing is not None:
        raise UsageError("--svg needs --prompt", hint="-p TEXT, or /svg FILE in a conversation")
    previous: ChatRequest | None = None
    while True:
        with ExitStack() as stack:
            # This module starts the worker process before it imports the rest: import it first.
            from g4cli.operations.chat.opening import open_session

            try:
                session = stack.enter_context(open_session(request, out))
            except G4Error as err:
                if previous is None:
                    raise
                out.error(err)
                out.say(f"going back to {previous.model}")
                request, previous = previous, None
                continue
            recorder = _make_recorder(out, session, request, private=display.private)
            stack.callback(recorder.close)
            if display.stats:
                from g4cli.cli.views.config import describe_origins

                out.say(describe_origins(session, display.origins))
            if question is not None:
                from g4cli.cli.chat.oneshot import answer_once

                return answer_once(out, session, question, display, recorder)
            from g4cli.cli.chat.repl import run_conversation
            from g4cli.cli.output import Output

            # In a conversation --quiet hides the banner only.
            shown = out if out.is_human else Output("human")
            end = run_conversation(shown, session, display, recorder)
        if end.next_model is None:
            return 0
        # A draft model works only with the model that it was trained for.
        draft = request.draft if request.draft in ("off", "lookup") else "auto"
        previous = replace(request, conversation=session.conversation)
        request = replace(previous, model=end.next_model, draft=draft)


def _choose_model(out: Output, known_model: str) -> str:
    """Return the model of the continued conversation if it is still there, else the newest one."""
    if known_model:
        try:
            find_model_path(known_model)
        except G4Error as err:
            out.warn(f"the model of this conversation cannot be used: {err.message}")
        else:
            return known_model
    found = find_newest_model()
    out.say(found.reason)
    return str(found.path)


def _make_recorder(
    out: Output, session: ChatSession, request: ChatRequest, *, private: bool
) -> ChatRecorder:
    from g4cli.operations.chat.recording import ChatRecorder

    # A relative path would name another file in another folder.
    path = Path(request.model).expanduser()
    model = str(path.absolute()) if path.exists() else request.model
    return ChatRecorder(out, model, session.describe_settings, private=private)


def _read_question(out: Output, request: ChatRequest, prompt: str | None) -> str | None:
    """Return the only question, or None for a conversation. Raises UsageError if neither works.

    Text from standard input goes before --prompt, as in llm (https://llm.datasette.io).
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
        question = f"{piped.rstrip()}\n\n{prompt}" if piped.strip() else prompt
    if not question.strip():
        raise UsageError(
            "the question is empty", hint=f'g4 chat {shell_word(request.model)} -p "What is GGUF?"'
        )
    return question


def _read_schema(prompt: str | None) -> str:
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
    text = sys.stdin.read(_MAX_PIPED + 1)
    if len(text) > _MAX_PIPED:
        raise UsageError(
            f"standard input has more than {_MAX_PIPED:,} characters", hint="head -c 1000000 FILE"
        )
    return text

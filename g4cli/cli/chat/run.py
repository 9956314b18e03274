"""Run `g4 chat`: answer one question, or hold conversations, with the next model after /model."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from g4cli.cli.chat.question import read_at_file, read_piped_schema, read_question
from g4cli.cli.settings import Origin
from g4cli.core.errors import G4Error, UsageError
from g4cli.core.files import require_file, require_file_target
from g4cli.core.paths import expand_home
from g4cli.store.models import find_model_file, find_newest_model

if TYPE_CHECKING:
    from g4cli.cli.chat.display import ChatDisplay
    from g4cli.cli.output import Output
    from g4cli.operations.chat.recording import ChatRecorder
    from g4cli.operations.chat.request import ChatRequest
    from g4cli.operations.chat.session import ChatSession
    from g4cli.operations.prompts import Prompt
    from g4cli.operations.tools.options import ToolOptions
    from g4cli.operations.tools.toolbox import Toolbox


def run_chat(
    out: Output,
    request: ChatRequest,
    prompt: str | None,
    display: ChatDisplay,
    *,
    resume: str | None = None,
    prompts: Path | None = None,
    n_parallel: int = 0,
    tool_options: ToolOptions | None = None,
) -> int:
    """Return the exit code of `g4 chat`; `prompt`, `resume` and `prompts` are options of that name.

    `n_parallel` prompts are answered at once; 0: as many as make it faster.
    `tool_options`: the tools that are run when the model calls them, if there are any.

    An empty `request.model` stands for the model that was pulled last. If the model that /model
    named cannot be opened, the previous one is opened again.
    """
    request, display = _choose_conversation(out, request, display, resume)
    if display.drawing is not None:
        from g4cli.operations.svg import require_drawing_target

        require_drawing_target(display.drawing)
    find_model_file(request.model)  # an unknown name is reported before standard input is read
    batch = None if prompts is None else _read_batch(prompts, prompt, display, request)
    if str(request.json_schema) == "-":
        request = replace(request, json_schema=None, json_schema_text=read_piped_schema(prompt))
        question = None if prompt is None else read_at_file(prompt)
    else:
        # None stands for a conversation; with --prompts there is none, and no single question.
        question = "" if batch is not None else read_question(out, request, prompt)
    _check_output(question, request, display, out)
    with ExitStack() as tools:
        toolbox = None
        if tool_options is not None:
            if batch is not None:
                raise UsageError("--prompts cannot be used with tools", hint="-p TEXT")
            from g4cli.operations.tools.toolbox import open_toolbox

            toolbox = tools.enter_context(open_toolbox(tool_options, out.warn))
            request = replace(request, declarations=toolbox.declarations)
        if batch is not None and display.output is not None:
            from g4cli.cli.chat.batch import answer_batch

            return answer_batch(out, request, batch, display.output, n_parallel)
        return _run_sessions(out, request, question, display, toolbox)


def _run_sessions(
    out: Output,
    request: ChatRequest,
    question: str | None,
    display: ChatDisplay,
    toolbox: Toolbox | None,
) -> int:
    """Answer the question, or hold a conversation that /model continues with other models.

    `question` is None for a conversation. Returns the exit code of g4.
    """
    previous: ChatRequest | None = None
    while True:
        with ExitStack() as stack:
            # Imported before the rest: open_session starts the worker process, which loads
            # llama.cpp while this process imports the other modules.
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

                return answer_once(out, session, question, display, recorder, toolbox)
            from g4cli.cli.chat.controller import ChatController
            from g4cli.cli.chat.repl import run_conversation
            from g4cli.cli.output import Output

            # In a conversation --quiet hides the banner only.
            shown = out if out.is_human else Output("human")
            chat = ChatController(shown, session, display, recorder, toolbox)
            run_conversation(chat)
        if chat.next_model is None:
            return 0
        display = chat.display  # /think and /stats may have changed it
        # A draft model works only with the model that it was trained for.
        draft = request.draft if request.draft in ("off", "lookup") else "auto"
        previous = replace(
            request,
            conversation=session.conversation,
            think=session.think,
            image=tuple(item.path for item in chat.media if item.kind == "image"),
            audio=tuple(item.path for item in chat.media if item.kind == "audio"),
        )
        request = replace(previous, model=chat.next_model, draft=draft)


def _choose_conversation(
    out: Output, request: ChatRequest, display: ChatDisplay, resume: str | None
) -> tuple[ChatRequest, ChatDisplay]:
    """Return the request with the conversation to continue and a model, and where each comes from.

    The system prompt and the model of a conversation have precedence over those of the environment
    and the config file, but not over options and presets.
    """
    origins = dict(display.origins)
    if resume is not None:
        from g4cli.cli.chat.resume import resume_chat

        conversation, known_model = resume_chat(out, resume)
        lasting = {name for name, origin in origins.items() if origin.is_lasting}
        if "system" not in lasting:
            conversation.system = request.system or conversation.system
        request = replace(request, conversation=conversation)
        is_asked_for = request.model and "model" not in lasting
        if known_model and not is_asked_for and _is_there(out, known_model):
            request = replace(request, model=known_model)
            origins["model"] = Origin("conversation", "the conversation")
    if not request.model:
        found = find_newest_model()
        out.say(found.reason)
        request = replace(request, model=str(found.path))
    return request, replace(display, origins=origins)


def _read_batch(
    prompts: Path, prompt: str | None, display: ChatDisplay, request: ChatRequest
) -> tuple[Prompt, ...]:
    """Return the prompts of the file. Raises UsageError if other options contradict it."""
    from g4cli.operations.prompts import read_prompts

    if prompt is not None:
        raise UsageError("--prompts and --prompt cannot be used together")
    if display.output is None:
        raise UsageError("--prompts needs --output", hint="--output answers.jsonl")
    if display.only_code or display.stream_json or display.drawing is not None:
        raise UsageError("--prompts cannot be used with --extract, --stream-json or --svg")
    if request.conversation is not None:
        raise UsageError("--prompts cannot be used with --continue or --resume")
    if request.image or request.audio:
        raise UsageError(
            "--prompts cannot be used with --image or --audio",
            hint='a line of the file: {"id": "a", "prompt": "...", "image": "photo.jpg"}',
        )
    require_file(prompts)
    return read_prompts(str(prompts))


def _check_output(
    question: str | None, request: ChatRequest, display: ChatDisplay, out: Output
) -> None:
    """Raise UsageError if options for the only answer are given without one, or contradict."""
    if request.n_probs is not None and out.mode != "json":
        raise UsageError("--logprobs needs --json or --stream-json")
    if display.stream_json and (display.only_code or display.output or display.drawing):
        raise UsageError("--stream-json cannot be used with --extract, --output or --svg")
    if display.output is not None:
        require_file_target(display.output)
    if question is not None:
        return
    if display.drawing is not None:
        raise UsageError("--svg needs --prompt", hint="-p TEXT, or /svg FILE in a conversation")
    for option, is_given in (("--output", display.output), ("--extract", display.only_code)):
        if is_given:
            raise UsageError(f"{option} needs --prompt", hint="-p TEXT")


def _is_there(out: Output, known_model: str) -> bool:
    """Return whether the model of the continued conversation is still there; warn if it is not."""
    try:
        find_model_file(known_model)
    except G4Error as err:
        out.warn(f"the model of this conversation cannot be used: {err.message}")
        return False
    return True


def _make_recorder(
    out: Output, session: ChatSession, request: ChatRequest, *, private: bool
) -> ChatRecorder:
    from g4cli.operations.chat.recording import ChatRecorder

    # A relative path would name another file in another folder.
    path = expand_home(request.model)
    model = str(path.absolute()) if path.exists() else request.model
    return ChatRecorder(out, model, session.describe_settings, private=private)

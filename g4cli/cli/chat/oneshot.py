"""Answer one question: the answer on standard output, everything else on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from g4cli.chat.code_block import find_code_blocks
from g4cli.cli.chat.consent import answer_with_consent
from g4cli.cli.views.json_lines import JsonLinesView
from g4cli.cli.views.plain_chat import PlainView
from g4cli.cli.views.reply import (
    describe_end,
    format_stats,
    is_cut_off_in_grammar,
    reply_to_json,
)
from g4cli.core.errors import DoctorFailed, Interrupted, LoopStopped, NotFound, RuntimeFailed
from g4cli.core.files import atomic_file
from g4cli.core.visible import json_text
from g4cli.operations.chat.inputs import list_requested_media
from g4cli.prompt.reply import tokens_to_json

if TYPE_CHECKING:
    from g4cli.chat import Reply
    from g4cli.cli.chat.display import ChatDisplay
    from g4cli.cli.output import Output
    from g4cli.operations.chat.recording import ChatRecorder
    from g4cli.operations.chat.session import ChatSession
    from g4cli.operations.tools.toolbox import Toolbox

_View: TypeAlias = "PlainView | JsonLinesView"


def answer_once(
    out: Output,
    session: ChatSession,
    question: str,
    display: ChatDisplay,
    recorder: ChatRecorder,
    toolbox: Toolbox | None = None,
) -> int:
    """Answer `question` about the media of the request; return the exit code of g4.

    Raises NotFound if the code block of the answer is wanted and it has none, LoopStopped if the
    model goes on calling tools of `toolbox`.
    """
    conversation = session.conversation
    conversation.ask(question, list_requested_media(session.request))
    recorder.save(conversation)
    # Calls that g4 runs are shown with their results, on standard error.
    with _make_view(out, session, display, shows_calls=toolbox is None) as view:
        reply = answer_with_consent(
            out,
            toolbox,
            lambda: session.run_turn(recorder.watch(view, conversation)),
            conversation.answer,
        )
    recorder.save(conversation, reply)
    data = _describe_answer(session, reply)
    checked = None
    if display.drawing is not None:
        # Imported here: its rules take 0.1 s to load, and few answers have a drawing.
        from g4cli.cli.views.svg import save_if_it_works
        from g4cli.operations.svg import check_drawing

        checked = check_drawing(reply.text, "the answer")
        save_if_it_works(out, checked, display.drawing)
        data["svg"] = checked.as_json()
    _write_answer(out, view, reply, data, display)
    exit_code = _report_end(out, session, reply, display)
    return exit_code or (0 if checked is None or checked.works else DoctorFailed.exit_code)


def _describe_answer(session: ChatSession, reply: Reply) -> dict[str, Any]:
    """Return the document of `--json`, without what options of the display add."""
    data: dict[str, Any] = {
        "model": session.request.model,
        "sampling": session.describe_settings(),
        **reply_to_json(reply, session.load_s, session.engine.drafted),
    }
    if session.request.n_probs is not None:
        data["logprobs"] = tokens_to_json(session.sampled)
    if session.conversation.stored_id is not None:
        data["conversation"] = session.conversation.stored_id
    return data


def _report_end(out: Output, session: ChatSession, reply: Reply, display: ChatDisplay) -> int:
    """Warn if the answer did not end by itself, show its figures, and return the exit code."""
    if what := describe_end(reply, session):
        out.warn(what)
    if reply.finish_reason == "loop":
        return LoopStopped.exit_code
    if reply.finish_reason == "interrupted":
        return Interrupted.exit_code
    if display.stats:
        out.say(format_stats(session, reply))
    return RuntimeFailed.exit_code if is_cut_off_in_grammar(reply, session) else 0


def _make_view(
    out: Output, session: ChatSession, display: ChatDisplay, *, shows_calls: bool
) -> _View:
    """Return what shows the answer while it is written."""
    if display.stream_json:
        view = JsonLinesView()
        view.start(session.request.model, session.engine.n_ctx)
        return view
    streams = not display.only_code and display.output is None
    return PlainView(out, display.thoughts, streams=streams, shows_calls=shows_calls)


def _write_answer(
    out: Output, view: _View, reply: Reply, data: dict[str, Any], display: ChatDisplay
) -> None:
    """Write what was not streamed: a JSON document, the code of the answer, a file."""
    if isinstance(view, JsonLinesView):
        view.end(data)
        return
    text = reply.text
    if display.only_code:
        code = next(find_code_blocks(text), None)
        if code is None:
            if reply.finish_reason not in ("interrupted", "loop"):
                hint = "g4 chats show last" if "conversation" in data else None
                raise NotFound("the answer has no code block", hint=hint)
            if out.mode != "json":
                return  # the exit code says that
        else:
            data["code"] = text = code
    if out.mode == "json":
        text = json_text(data, indent=2)
    if display.output is not None:
        with atomic_file(display.output) as file:
            file.write(f"{text.rstrip()}\n".encode("utf-8", "replace"))
        out.say(f"wrote {display.output}")
    elif out.mode == "json":
        out.result(data)
    elif display.only_code:
        out.write_text(text)

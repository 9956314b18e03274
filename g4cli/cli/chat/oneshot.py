"""Answer one question: the answer on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from g4cli.cli.views.plain_chat import PlainView
from g4cli.cli.views.reply import describe_loop, format_stats, reply_to_json
from g4cli.core.errors import DoctorFailed, Interrupted, LoopStopped
from g4cli.operations.chat.inputs import list_requested_media

if TYPE_CHECKING:
    from g4cli.cli.options.chat import ChatDisplay
    from g4cli.cli.output import Output
    from g4cli.operations.chat.recording import ChatRecorder
    from g4cli.operations.chat.session import ChatSession
    from g4cli.operations.svg import CheckedDrawing


def answer_once(
    out: Output,
    session: ChatSession,
    question: str,
    display: ChatDisplay,
    recorder: ChatRecorder,
) -> int:
    """Answer `question` about the media of the request; return the exit code of g4."""
    conversation = session.conversation
    conversation.ask(question, list_requested_media(session.request))
    recorder.save(conversation)
    with PlainView(out, display.thoughts) as view:
        reply = session.run_turn(recorder.watch(view, conversation))
    recorder.save(conversation, reply)
    data = reply_to_json(reply, session.load_s, session.engine.drafted)
    if conversation.stored_id is not None:
        data["conversation"] = conversation.stored_id
    checked = None
    if display.drawing is not None:
        checked = _save_drawing(out, reply.text, display.drawing)
        data["svg"] = checked.as_json()
    if out.mode == "json":
        out.result(data)
    if reply.loop and reply.finish_reason == "loop":
        out.warn(describe_loop(reply.loop, session.engine.path, forced=session.has_grammar))
        return LoopStopped.exit_code
    if reply.finish_reason == "interrupted":
        return Interrupted.exit_code
    if reply.context_full:
        n_ctx = session.engine.n_ctx
        out.warn(f"the answer was truncated: the context of {n_ctx:,} tokens is full (--ctx)")
    if display.stats:
        out.say(format_stats(session, reply))
    sys.stdout.flush()
    return 0 if checked is None or checked.works else DoctorFailed.exit_code


def _save_drawing(out: Output, answer: str, path: Path) -> CheckedDrawing:
    """Write the drawing of `answer` to `path` if it works, and report on it in any case."""
    # Imported here: its rules take 0.1 s to load, and few answers have a drawing.
    from g4cli.cli.views.svg import describe_saved
    from g4cli.operations.svg import check_drawing, save_drawing

    checked = check_drawing(answer, "the answer")
    if checked.works:
        save_drawing(checked.drawing, path)
        out.say(describe_saved(checked, path))
    else:
        out.warn(describe_saved(checked, path))
    return checked

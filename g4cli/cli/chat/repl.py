"""The loop of a conversation in the terminal: read a line, act on it, show the answer."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from g4cli.cli.chat.controller import ChatController, strip_quotes
from g4cli.cli.chat.line_editor import LineEditor
from g4cli.cli.chat.slash_commands import COMMANDS, run_command
from g4cli.core.paths import state_dir
from g4cli.core.units import size_text
from g4cli.operations.chat.inputs import list_requested_media

if TYPE_CHECKING:
    from g4cli.cli.options.chat import ChatDisplay
    from g4cli.cli.output import Output
    from g4cli.operations.chat.recording import ChatRecorder
    from g4cli.operations.chat.session import ChatSession
    from g4cli.operations.tools.toolbox import Toolbox


_MAX_PATH_CHARS: Final = 4096
_SUFFIXES: Final[Mapping[str, Literal["image", "audio"]]] = {
    ".jpg": "image", ".jpeg": "image", ".png": "image", ".bmp": "image", ".gif": "image",
    ".wav": "audio", ".mp3": "audio", ".flac": "audio",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ConversationEnd:
    """How a conversation ended. `next_model` is the model that /model asked for, or None."""

    next_model: str | None = None


def run_conversation(
    out: Output,
    session: ChatSession,
    display: ChatDisplay,
    recorder: ChatRecorder,
    toolbox: Toolbox | None = None,
) -> ConversationEnd:
    """Hold a conversation until the user ends it, save each turn, and return how it ended.

    `toolbox`: the tools that are run when the model calls them.

    Raises SystemExit when the terminal is closed (SIGHUP) or the process is told to end (SIGTERM).
    """
    controller = ChatController(out, session, display, recorder, toolbox)
    with _exit_on(signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        try:
            _read_lines(controller)
        finally:
            controller.save()
    return ConversationEnd(controller.next_model)


@contextmanager
def _exit_on(*signals: signal.Signals) -> Iterator[None]:
    """Let each of `signals` raise SystemExit in the block, with the exit code that shells give."""

    def exit_now(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, exit_now) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _read_lines(controller: ChatController) -> None:
    """Show the banner and the turns so far, then act on each line."""
    out, session = controller.out, controller.session
    engine = session.engine
    controller.media.extend(list_requested_media(session.request))
    # A private chat leaves no trace, not even its questions.
    history = None if controller.display.private else state_dir() / "history"
    editor = LineEditor(COMMANDS, history)
    if controller.display.banner:
        out.say(
            f"{engine.path.name}, {size_text(engine.loaded.size_bytes)}, "
            f"context {engine.n_ctx:,} tokens; /help"
        )
    if session.conversation.turns:
        controller.show_history()
    placeholder = "ask something, or /help"
    while not controller.finished and controller.next_model is None:
        prefill, controller.prefill = controller.prefill, ""
        line = editor.read_question(default=prefill, placeholder=placeholder)
        placeholder = ""
        if line is None:
            break
        # From here on Ctrl-C stops the answer and not g4, even before the first token is sampled.
        with out.show_errors(), engine.ctrl_c.listening():
            _run_line(controller, line)
        if engine.has_ended and not controller.finished:
            out.say("the conversation is kept: the next question or /retry loads the model again")


def _run_line(controller: ChatController, line: str) -> None:
    """Act on one line: add a dropped file, run a command, or ask a question."""
    # Only the question that is sent right after /edit replaces the old one.
    edited, controller.edited = controller.edited, None
    dropped = find_dropped_file(line)
    if dropped is not None:
        controller.add_media(*dropped)
    elif line.startswith("/"):
        run_command(controller, line)
    elif line:
        controller.ask_with_media(line, edited=edited)


def find_dropped_file(line: str) -> tuple[Literal["image", "audio"], str] | None:
    """Return kind and path if `line` is the pasted path of an image or audio file, else None."""
    path = Path(strip_quotes(line)).expanduser()
    kind = _SUFFIXES.get(path.suffix.lower())
    return (kind, str(path)) if kind and len(line) < _MAX_PATH_CHARS and path.is_file() else None

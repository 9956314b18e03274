"""A conversation in the terminal: read a line, run it, show the answer, until the user leaves."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from g4cli.cli.chat.line_editor import LineEditor
from g4cli.cli.chat.oneshot import loop_text, stats_text
from g4cli.cli.chat.slash_commands import COMMANDS, run_command
from g4cli.cli.views.chat import view_for
from g4cli.core.errors import G4Error, UsageError
from g4cli.core.files import require_file
from g4cli.core.paths import state_dir
from g4cli.operations.chat.saved import keep_chat
from g4cli.prompt.messages import Media, Message

if TYPE_CHECKING:
    from g4cli.chat import Conversation, Reply
    from g4cli.cli.chat.session import Session
    from g4cli.cli.output import Output


_PATH_CHARS: Final = 4096
_SUFFIXES: Final[Mapping[str, Literal["image", "audio"]]] = {
    ".jpg": "image", ".jpeg": "image", ".png": "image", ".bmp": "image", ".gif": "image",
    ".wav": "audio", ".mp3": "audio", ".flac": "audio",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Left:
    """How a conversation ended: `next_model` is what /model asked for."""

    next_model: str | None = None


class _TakenBack:
    """Takes the last question back if it cannot be asked; one that something else ended is kept."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, err: BaseException | None, _trace: object) -> None:
        if isinstance(err, G4Error):
            if not self._session.engine.has_ended:
                self._session.conversation.undo()
        elif err is not None:  # the window was closed: nothing may follow a question but an answer
            self._session.conversation.answer(Message("assistant", ""))


class Driver:
    """What the slash commands act on."""

    def __init__(self, out: Output, session: Session) -> None:
        self.out, self.session = out, session
        self.prefill = ""
        self.edited: Message | None = None  # the question that /edit shows again
        self.media: list[Media] = []
        self.finished = False
        self.next_model: str | None = None
        self._last: Reply | None = None
        self._can_keep = True

    def take(self, line: str) -> None:
        """Do what one line asks for: a command, or a question."""
        edited, self.edited = self.edited, None
        dropped = dropped_file(line)
        if dropped is not None:
            self.add_media(*dropped)
        elif line.startswith("/"):
            run_command(self, line)
        elif line:
            media, self.media = self.media, []
            if edited is not None:
                self.session.conversation.undo()
                media = [*edited.media, *media]
            self.ask(line, media)

    def add_media(self, kind: Literal["image", "audio"], name: str) -> None:
        """Keep a picture or sound for the next question. Raises what is wrong with the file or the model."""
        if not name:
            raise UsageError("which file?", hint=f"/{kind} FILE")
        # Absolute: the conversation may go on in another folder.
        medium = Media(kind, Path(unquoted_path(name)).expanduser().absolute())
        require_file(medium.path)
        self.session.need_media()
        with view_for(self.out, self.session.settings.thoughts) as view:
            encoded = self.session.encode([medium], view)
        if encoded is None:
            self.out.say(f"stopped; {medium.path.name} is left out")
            return
        self.out.say(f"{medium.path.name}: {encoded[0].n_tokens} tokens; now ask about it")
        self.media.append(medium)

    def ask(self, text: str, media: Sequence[Media] = ()) -> None:
        """Ask and show the answer. The conversation keeps both, also when the answer is interrupted."""
        session = self.session
        session.conversation.ask(text, media)
        with (
            _TakenBack(session),
            view_for(self.out, session.settings.thoughts) as view,
        ):
            reply = session.turn(view)
        self._last = reply
        self.keep()
        if reply.finish_reason == "loop" and reply.loop:
            self.out.warn(loop_text(reply.loop, session.engine.path, forced=session.has_grammar))
        elif reply.finish_reason == "interrupted":
            self.out.say("stopped; /retry answers again, /undo takes it back")
        elif reply.context_full:
            self.out.warn("the answer was cut: the context is full (/clear, or --ctx with more)")
        if session.settings.stats:
            self.show_stats()

    def begin(self, conversation: Conversation) -> None:
        """Go on with another conversation; the one before is kept."""
        self.keep()
        self.session.conversation = conversation

    def keep(self) -> None:
        """Write the conversation where --resume finds it. Warns once if that cannot be: the chat goes on."""
        try:
            if self._can_keep:
                keep_chat(self.session.conversation)
        except G4Error as err:
            self._can_keep = False
            self.out.warn(f"this conversation is not kept: {err.message}")

    def show_stats(self) -> None:
        """Show the figures of the last answer."""
        if self._last is None:
            self.out.say("no answer yet")
        else:
            self.out.say(stats_text(self.session, self._last))

    def show_history(self) -> None:
        """Show the conversation as it stands, after /load or --resume."""
        from g4cli.cli.views.chat import draw_turns

        draw_turns(self.out, self.session.conversation.turns)


def dropped_file(line: str) -> tuple[Literal["image", "audio"], str] | None:
    """Return kind and path if the line is just the path of a medium: a file dropped on the terminal."""
    path = Path(unquoted_path(line)).expanduser()
    kind = _SUFFIXES.get(path.suffix.lower())
    return (kind, str(path)) if kind and len(line) < _PATH_CHARS and path.is_file() else None


def unquoted_path(text: str) -> str:
    """Return a pasted path without its quotation marks or backslashes before spaces."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text.replace("\\ ", " ")


def converse(out: Output, session: Session) -> Left:
    """Talk until the user leaves; return how. The conversation is kept for `--resume last`.

    Raises SystemExit when the window is closed or the process is asked to end.
    """
    driver = Driver(out, session)
    with _ended_by(signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        try:
            _loop(out, session, driver)
        finally:
            driver.keep()
    return Left(driver.next_model)


@contextmanager
def _ended_by(*signals: signal.Signals) -> Iterator[None]:
    """Let each of `signals` raise SystemExit inside the block, with the shell's exit code for it."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _loop(out: Output, session: Session, driver: Driver) -> None:
    from g4cli.core.units import size_text

    driver.media.extend(session.media_of(session.request))
    editor = LineEditor(COMMANDS, state_dir() / "history")
    engine = session.engine
    if not session.request.quiet:
        out.say(
            f"{engine.path.name}, {size_text(engine.loaded.size_bytes)}, "
            f"context {engine.n_ctx:,} tokens; /help"
        )
    if session.conversation.turns:
        driver.show_history()
    placeholder = "ask something, or /help"
    while not driver.finished and driver.next_model is None:
        prefill, driver.prefill = driver.prefill, ""
        line = editor.ask(default=prefill, placeholder=placeholder)
        placeholder = ""
        if line is None:
            break
        # From here on Ctrl-C stops what runs, not g4: also before the first token is asked for.
        with out.errors_shown(), engine.ctrl_c.listening():
            driver.take(line)
        if engine.has_ended and not driver.finished:
            out.say("the conversation is kept; the next question or /retry starts the model again")

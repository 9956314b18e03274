"""The loop of a conversation in the terminal: read a line, act on it, show the answer."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

from g4cli.cli.chat.controller import ChatController
from g4cli.cli.chat.line_editor import LineEditor
from g4cli.cli.chat.slash_commands import COMMANDS, run_command, strip_quotes
from g4cli.core.errors import G4Error
from g4cli.core.paths import expand_home, state_dir
from g4cli.core.units import size_text
from g4cli.operations.chat.inputs import list_requested_media

# At each end of a line so many characters are searched for a path (Linux's PATH_MAX).
_MAX_PATH_CHARS: Final = 4096
# A word of a shell: in quotation marks, or with backslashes before spaces and signs.
_WORD: Final = r"""('[^']+'|"[^"]+"|(?:\\.|[^\s'"\\])+)"""
_FIRST_WORD: Final = re.compile(rf"{_WORD}(?:\s+|$)")
_LAST_WORD: Final = re.compile(rf"\s+{_WORD}$")
# A slash and one word; a path such as /etc/passwd is none. "//" begins a question with a slash.
_COMMAND: Final = re.compile(r"/[\w?-]*(?:\s|$)")
_ESCAPE: Final = "//"
_QUIT_WORDS: Final = ("exit", "quit")
_SUFFIXES: Final[Mapping[str, Literal["image", "audio"]]] = {
    ".jpg": "image", ".jpeg": "image", ".png": "image", ".bmp": "image", ".gif": "image",
    ".wav": "audio", ".mp3": "audio", ".flac": "audio",
}  # fmt: skip

DroppedFile: TypeAlias = tuple[Literal["image", "audio"], Path]
"""Kind and path of a file whose path was pasted."""


def run_conversation(controller: ChatController) -> None:
    """Hold a conversation until its end, or until /model has named the controller's `next_model`.

    Each turn is saved. Raises SystemExit when the terminal is closed (SIGHUP) or the process is
    told to end (SIGTERM).
    """
    with _exit_on(signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        try:
            _read_lines(controller)
        finally:
            controller.save()


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
    """Show the banner and the turns so far, then act on each line until the conversation ends."""
    out, session = controller.out, controller.session
    engine = session.engine
    controller.media.extend(list_requested_media(session.request))
    # A private chat leaves no trace, not even its questions.
    history = None if controller.display.private else state_dir() / "history"
    editor = LineEditor(COMMANDS, history, out.say)
    if controller.display.banner:
        out.say(
            f"{engine.path.name}, {size_text(session.header.file_size)}, "
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
        try:
            with engine.ctrl_c.listening():
                _run_line(controller, line)
        except G4Error as err:  # the chat continues
            out.error(err)
        if engine.has_ended and not controller.finished:
            out.say("the conversation is kept: the next question or /retry loads the model again")


def _run_line(controller: ChatController, line: str) -> None:
    """Act on one line: leave, run a command, add dropped files, or ask a question."""
    # Only the question that is sent right after /edit replaces the old one.
    edited, controller.edited = controller.edited, None
    if line in _QUIT_WORDS:
        controller.finished = True
        return
    if is_command(line):
        run_command(controller, line)
        return
    dropped, question = split_dropped_files(line)
    for kind, path in dropped:
        if not controller.add_media(kind, path, asks=bool(question)):
            # Not asked without the file, but offered for editing.
            controller.prefill, controller.edited = question, edited if question else None
            return
    if question.startswith(_ESCAPE):
        question = question[1:]
    if question:
        controller.ask_with_media(question, edited=edited)


def is_command(line: str) -> bool:
    """Return whether `line` begins with a slash command, known or not: a slash and one word."""
    return _COMMAND.match(line) is not None


def split_dropped_files(line: str) -> tuple[list[DroppedFile], str]:
    """Return the image and audio files whose pasted paths begin or end `line`, and the text.

    A path beside a text has to be absolute, as those are that terminals paste.
    """
    whole = _find_media_file(line)
    if whole is not None:
        return [whole], ""
    first: list[DroppedFile] = []
    last: list[DroppedFile] = []
    while (word := _FIRST_WORD.match(line, 0, _MAX_PATH_CHARS)) and (
        file := _find_media_file(word[1], is_beside_text=True)
    ):
        first.append(file)
        line = line[word.end() :]
    while (word := _LAST_WORD.search(line, max(0, len(line) - _MAX_PATH_CHARS))) and (
        file := _find_media_file(word[1], is_beside_text=True)
    ):
        last.insert(0, file)
        line = line[: word.start()]
    return first + last, line


def _find_media_file(text: str, *, is_beside_text: bool = False) -> DroppedFile | None:
    """Return the image or audio file whose path `text` is, or None."""
    path = expand_home(strip_quotes(text))
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None or (is_beside_text and not path.is_absolute()) or not os.path.isfile(path):
        return None
    return kind, path

"""The line editor of `g4 chat`, the only file that uses prompt_toolkit.

Enter sends, Alt-Enter begins a new line, three quotation marks open and close a text of several
lines. The history is kept between runs; Tab completes commands, models and paths. In a terminal
that cannot move its cursor (TERM=dumb), lines are read as the terminal itself edits them.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import is_dumb_terminal

from g4cli.core.files import make_folder

if TYPE_CHECKING:
    from g4cli.cli.chat.slash_commands import Command

QUOTES: Final = '"""'
PROMPT: Final = ">>> "
_STYLE: Final = Style.from_dict({"prompt": "bold ansigreen", "placeholder": "ansibrightblack"})


class LineEditor:
    """Reads the user's questions from the terminal; `notify` shows a notice to the user."""

    def __init__(
        self,
        commands: Sequence[Command],
        history_file: Path | None,
        notify: Callable[[str], None],
    ) -> None:
        self._notify = notify
        self._session: PromptSession[str] = PromptSession(
            history=open_history(history_file),
            completer=CommandCompleter(commands),
            complete_while_typing=False,
            key_bindings=_bind_keys(),
            multiline=True,
            prompt_continuation=_continuation_prompt,
            style=_STYLE,
            # Completions are listed as bash lists them, not in a menu, which would need free rows.
            complete_style=CompleteStyle.READLINE_LIKE,
            reserve_space_for_menu=0,
            enable_open_in_editor=True,
            enable_suspend=True,
            tempfile_suffix=".md",
        )

    def read_question(self, *, default: str = "", placeholder: str = "") -> str | None:
        """Return what the user typed, or None at Ctrl-D.

        `default` is the text that the line begins with; `placeholder` is shown while it is empty.
        The first Ctrl-C on an empty line says how to quit; the second raises KeyboardInterrupt.
        """
        was_interrupted = False
        while True:
            try:
                if is_dumb_terminal():
                    return strip_block_quotes(self._read_without_editing(default))
                if not default and take_end_of_input():
                    return None
                return strip_block_quotes(
                    self._session.prompt(
                        FormattedText([("class:prompt", PROMPT)]),
                        default=default,
                        placeholder=FormattedText([("class:placeholder", placeholder)]),
                    )
                )
            except EOFError:
                return None
            except KeyboardInterrupt:
                if was_interrupted:
                    raise
                was_interrupted, default = True, ""
                self._notify("to quit: Ctrl-C again, or Ctrl-D")

    def _read_without_editing(self, default: str) -> str:
        """Return a line, or a block in triple quotation marks, as the terminal itself reads it."""
        if default:
            self._notify(f"the question was: {default}")
        text = input(PROMPT)
        while is_open_block(text):
            text += "\n" + input("... ")
        return text


def take_end_of_input() -> bool:
    """Return whether Ctrl-D was the first key since the last question, and take it if so.

    While an answer runs or stops, the terminal gathers lines itself: it keeps Ctrl-D as an end of
    input without characters, which becomes a NUL as soon as the editor turns line mode off.
    """
    if sys.platform == "win32":
        return False
    import fcntl
    import termios

    with suppress(OSError):  # standard input has no file, or the terminal is gone
        terminal, n_waiting = sys.stdin.fileno(), bytearray(4)
        if os.isatty(terminal) and select.select([terminal], [], [], 0)[0]:
            fcntl.ioctl(terminal, termios.FIONREAD, n_waiting)
            return not any(n_waiting) and not os.read(terminal, 1)
    return False


def strip_block_quotes(text: str) -> str:
    """Return `text` without the triple quotation marks around it, and stripped."""
    stripped = text.strip()
    if stripped.startswith(QUOTES):
        return stripped[len(QUOTES) :].removesuffix(QUOTES).strip("\n")
    return stripped


def is_open_block(text: str) -> bool:
    """Return whether `text` opens a block with triple quotation marks and does not close it."""
    stripped = text.strip()
    return stripped.startswith(QUOTES) and not (
        len(stripped) >= 2 * len(QUOTES) and stripped.endswith(QUOTES)
    )


def _bind_keys() -> KeyBindings:
    """Return what Enter, Alt-Enter and Ctrl-C do; the rest is as in a shell (Emacs keys)."""
    keys = KeyBindings()
    in_question = has_focus(DEFAULT_BUFFER)  # while Ctrl-R searches, its own keys count

    @keys.add("enter", filter=in_question)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state:
            buffer.complete_state = None
        elif is_open_block(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=in_question)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c", filter=in_question)
    @keys.add("<sigint>")
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

    return keys


def _continuation_prompt(width: int, _line: int, n_wrapped: int) -> FormattedText:
    """Return what begins a further row: of the same line if the window wrapped it, or a new one."""
    return FormattedText([("class:prompt", (" " if n_wrapped else "... ").rjust(width))])


class _QuestionHistory(FileHistory):
    """The history in a file; a question that cannot be written is remembered in memory alone."""

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            super().store_string(string)


def open_history(path: Path | None) -> History:
    """Return the history of questions in the file `path`, or in memory if there can be no file."""
    if path is None:
        return InMemoryHistory()
    with suppress(OSError):
        # Questions are private: only the user may read the file.
        make_folder(path.parent, private=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        path.chmod(0o600)
        return _QuestionHistory(str(path))
    return InMemoryHistory()


class CommandCompleter(Completer):
    """Completes commands at the start of a line, and what they take: choices, models, paths."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = {command.name: command for command in commands}
        self._paths = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        """Yield the completions of the text before the cursor."""
        text = document.text_before_cursor
        if not text.startswith("/"):
            return
        name, space, rest = text[1:].partition(" ")
        if not space:
            for known in sorted(self._commands):
                if known.startswith(name):
                    yield Completion(known, -len(name), display_meta=self._commands[known].help)
            return
        command = self._commands.get(name)
        if command is None:
            return
        for choice in command.choices:
            if choice.startswith(rest):
                yield Completion(choice, -len(rest))
        if command.complete is not None:
            for word, meaning in command.complete(rest):
                yield Completion(word, -len(rest), display_meta=meaning)
        if command.takes_path:
            yield from self._paths.get_completions(Document(rest), complete_event)

"""The slash commands of `g4 chat`: their functions and their table, which Tab completes too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Final, Literal

from g4cli.chat import Conversation
from g4cli.cli.chat.controller import ChatController
from g4cli.cli.chat.resume import resume_chat
from g4cli.cli.completion import complete_conversation, complete_pulled
from g4cli.cli.views.saved_chats import draw_chats, shorten_line
from g4cli.core.config import expand_alias
from g4cli.core.errors import NotFound, UsageError
from g4cli.core.paths import expand_home
from g4cli.core.units import size_text
from g4cli.operations.chat.saved import may_replace, save_chat
from g4cli.operations.chat.session import MAX_THOUGHT_TOKENS
from g4cli.operations.models import prepare_model
from g4cli.prompt.messages import Message
from g4cli.store.conversations.store import ConversationStore

_MAX_LISTED: Final = 30  # conversations: a choice, one screen


@dataclass(frozen=True, slots=True)
class Command:
    """One slash command. `run` takes the controller and the rest of the line.

    `usage` shows its argument in /help. `choices`, `takes_path` and `complete` say what Tab
    completes after it; `complete` returns words and what they are.
    """

    name: str
    usage: str
    help: str
    run: Callable[[ChatController, str], None]
    takes_path: bool = False
    choices: tuple[str, ...] = ()
    complete: Callable[[str], Iterable[tuple[str, str]]] | None = None


def strip_quotes(text: str) -> str:
    """Return a pasted path without quotation marks, or without the backslashes of a shell.

    A backslash before a letter or a digit stays: no shell needs it there.
    """
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return re.sub(r"\\(\W)", r"\1", text)


def _run_help(chat: ChatController, _rest: str) -> None:
    for command in COMMANDS:
        chat.out.line(f"  {('/' + command.name + ' ' + command.usage).ljust(26)}{command.help}")
    chat.out.line('  Alt-Enter or """           write several lines')
    chat.out.line("  Ctrl-C                    stop an answer, clear the line, or quit (twice)")
    chat.out.line("  //TEXT                    ask a question that begins with /")


def _run_clear(chat: ChatController, _rest: str) -> None:
    chat.switch_conversation(Conversation(chat.session.conversation.system))
    chat.out.say("conversation cleared; the system prompt is kept")


def _run_undo(chat: ChatController, _rest: str) -> None:
    question = chat.session.conversation.undo()
    if question is None:
        raise UsageError("there is no question to remove")
    chat.out.say(f"removed: {shorten_line(question.content)}")


def _run_retry(chat: ChatController, _rest: str) -> None:
    question = _find_question(chat, "there is no question to answer again")
    chat.ask(question.content, question.media, replaces_last=True)


def _run_edit(chat: ChatController, _rest: str) -> None:
    chat.edited = _find_question(chat, "there is no question to edit")
    chat.prefill = chat.edited.content


def _find_question(chat: ChatController, refusal: str) -> Message:
    """Return the last question. Raises UsageError with the message `refusal` if there is none."""
    for turn in reversed(chat.session.conversation.turns):
        if turn.role == "user":
            return turn
    raise UsageError(refusal)


def _run_system(chat: ChatController, rest: str) -> None:
    conversation = chat.session.conversation
    if rest:
        conversation.system = "" if rest == "off" else rest
    chat.out.say(f"system: {conversation.system or '(none)'}")


def _run_think(chat: ChatController, rest: str) -> None:
    if rest in ("show", "fold", "hide"):
        chat.display = replace(chat.display, thoughts=rest)
    elif rest in MAX_THOUGHT_TOKENS:
        chat.session.think = rest
    elif rest:
        raise UsageError(
            f"/think does not take {rest!r}", hint="/think on|off|low|medium|high|show|fold|hide"
        )
    chat.out.say(f"thinking {chat.session.think}; thoughts: {chat.display.thoughts}")


def _add_file(kind: Literal["image", "audio"], chat: ChatController, rest: str) -> None:
    if not rest:
        raise UsageError(f"/{kind} needs a file name", hint=f"/{kind} FILE")
    chat.add_media(kind, expand_home(strip_quotes(rest)))


def _run_save(chat: ChatController, rest: str) -> None:
    if not rest:
        raise UsageError("/save needs a file name", hint="/save chat.json")
    path = expand_home(strip_quotes(rest))
    if not may_replace(path) and not chat.out.confirm(
        f"{path} is not a chat saved by g4. Replace it?"
    ):
        chat.out.say("not saved")
        return
    save_chat(chat.session.conversation, path)
    n = sum(turn.role == "user" for turn in chat.session.conversation.turns)
    questions = "1 question and its answer" if n == 1 else f"{n:,} questions and their answers"
    chat.out.say(f"saved {questions}: {path}")


def _run_load(chat: ChatController, rest: str) -> None:
    if not rest:
        with ConversationStore.open() as store:
            draw_chats(chat.out, store.list_conversations(limit=_MAX_LISTED))
        return
    try:
        conversation, _ = resume_chat(chat.out, strip_quotes(rest))
    except NotFound as err:
        raise NotFound(err.message, hint="/load lists them") from err
    chat.switch_conversation(conversation)
    chat.show_history()


def _run_svg(chat: ChatController, rest: str) -> None:
    checked = chat.find_drawing()
    from g4cli.cli.views.picture import show_picture
    from g4cli.cli.views.svg import save_if_it_works, summarize_check

    if rest:
        save_if_it_works(chat.out, checked, expand_home(strip_quotes(rest)))
        return
    show_picture(chat.out, checked.drawing, save_command="/svg OUT.png")
    chat.out.say(summarize_check(checked, repairs_made=True))


def _run_stats(chat: ChatController, rest: str) -> None:
    if rest in ("on", "off"):
        chat.display = replace(chat.display, stats=rest == "on")
    elif rest:
        raise UsageError(f"/stats does not take {rest!r}", hint="/stats on|off")
    chat.show_stats()


def _run_fit(chat: ChatController, _rest: str) -> None:
    engine = chat.session.engine
    loaded = engine.loaded
    chat.out.line(f"weights   {size_text(loaded.size_bytes)}")
    chat.out.line(f"KV cache  {size_text(loaded.kv_bytes)} ({engine.n_ctx:,} tokens)")
    chat.out.line(f"compute   {size_text(loaded.compute_bytes)}")


def _run_model(chat: ChatController, rest: str) -> None:
    if rest:
        name = expand_alias(strip_quotes(rest))
        # Raises what can be found without loading the model, before the current one is closed. An
        # SFP8 archive is expanded here.
        prepare_model(name, chat.out, expand=chat.session.request.expand)
        chat.next_model = name
        return
    path, loaded = chat.session.engine.path, chat.session.engine.loaded
    size = size_text(chat.session.header.file_size)
    chat.out.line(f"{path.name}: {loaded.description}, {size}")
    chat.out.line(f"{path}")


def _run_quit(chat: ChatController, _rest: str) -> None:
    chat.finished = True


_THINK_CHOICES: Final = ("on", "off", "low", "medium", "high", "show", "fold", "hide")

COMMANDS: Final[tuple[Command, ...]] = (
    Command("help", "", "list the commands", _run_help),
    Command("clear", "", "start an empty conversation; this one is saved", _run_clear),
    Command("undo", "", "remove the last question and its answer", _run_undo),
    Command("retry", "", "answer the last question again", _run_retry),
    Command("edit", "", "edit the last question and ask it again", _run_edit),
    Command("system", "[TEXT|off]", "show or set the system prompt", _run_system, choices=("off",)),
    Command("think", "[on|off|low|...]", "think before answering; show, fold or hide thoughts",
            _run_think, choices=_THINK_CHOICES),
    Command("image", "FILE", "add an image to the next question", partial(_add_file, "image"),
            takes_path=True),
    Command("audio", "FILE", "add an audio file to the next question", partial(_add_file, "audio"),
            takes_path=True),
    Command("save", "FILE", "save the conversation as JSON", _run_save, takes_path=True),
    Command("load", "[ID|FILE]", "continue or list saved chats", _run_load, takes_path=True,
            complete=complete_conversation),
    Command("svg", "[FILE]", "show the last drawing, or save it", _run_svg, takes_path=True),
    Command("stats", "[on|off]", "show speeds: of the last answer, or of each", _run_stats,
            choices=("on", "off")),
    Command("fit", "", "show the memory that this chat uses", _run_fit),
    Command("model", "[MODEL]", "show or change the model", _run_model, takes_path=True,
            complete=complete_pulled),
    Command("quit", "", "end the conversation (also exit, quit, Ctrl-D)", _run_quit),
)  # fmt: skip

_OTHER_NAMES: Final = {"?": "help", "bye": "quit", "exit": "quit"}
_BY_NAME: Final = {command.name: command for command in COMMANDS}


def run_command(chat: ChatController, line: str) -> None:
    """Run the command in `line` ("/name rest").

    Raises UsageError if there is no such command, and for a text after one that takes none.
    """
    name, *rest = line[1:].split(None, 1) or [""]
    command = _BY_NAME.get(_OTHER_NAMES.get(name, name))
    if command is None:
        near = get_close_matches(name, [*_BY_NAME, *_OTHER_NAMES], 1)
        fix = f"/{near[0]}" if near else "/help"
        raise UsageError(
            f"no such command: /{name}", hint=f"{fix}; to ask it as a question: /{line}"
        )
    text = rest[0].strip() if rest else ""
    if text and not command.usage:
        raise UsageError(f"/{name} takes no text after it", hint=f"/{name}")
    command.run(chat, text)

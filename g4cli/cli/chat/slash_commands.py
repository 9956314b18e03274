"""The slash commands of `g4 chat`. Each takes the conversation's driver and the rest of the line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from g4cli.chat import Conversation
from g4cli.core.errors import UsageError
from g4cli.core.units import size_text

if TYPE_CHECKING:
    from g4cli.cli.chat.repl import Driver
    from g4cli.cli.output import Output

_MOST_LISTED: Final = 30


@dataclass(frozen=True, slots=True)
class Command:
    """One slash command. `usage` shows its argument; `run` is None for the two that end the loop."""

    name: str
    usage: str
    help: str
    run: Callable[[Driver, str], None]
    takes_path: bool = False
    choices: tuple[str, ...] = ()


def _help(driver: Driver, _rest: str) -> None:
    for command in COMMANDS:
        driver.out.line(f"  {('/' + command.name + ' ' + command.usage).ljust(26)}{command.help}")
    driver.out.line('  Alt-Enter or """           a question of several lines')
    driver.out.line("  Ctrl-C                    stops an answer; on an empty line: leaves")


def _clear(driver: Driver, _rest: str) -> None:
    driver.begin(Conversation(driver.session.conversation.system))
    driver.out.say("forgotten; the system text stays")


def _undo(driver: Driver, _rest: str) -> None:
    question = driver.session.conversation.undo()
    if question is None:
        raise UsageError("there is nothing to take back")
    driver.out.say(f"taken back: {_short(question.content)}")


def _retry(driver: Driver, _rest: str) -> None:
    question = driver.session.conversation.undo()
    if question is None:
        raise UsageError("there is nothing to answer again")
    driver.ask(question.content, question.media)


def _edit(driver: Driver, _rest: str) -> None:
    turns = driver.session.conversation.turns
    question = next((turn for turn in reversed(turns) if turn.role == "user"), None)
    if question is None:
        raise UsageError("there is no question to edit")
    driver.prefill = question.content
    driver.edited = question


def _system(driver: Driver, rest: str) -> None:
    conversation = driver.session.conversation
    if rest:
        conversation.system = "" if rest == "off" else rest
    driver.out.say(f"system: {conversation.system or '(none)'}")


def _think(driver: Driver, rest: str) -> None:
    session = driver.session
    if rest in ("show", "fold", "hide"):
        session.settings = replace(session.settings, thoughts=rest)
    elif rest in ("on", "off", "low", "medium", "high"):
        session.settings = replace(session.settings, think=rest)
    elif rest:
        raise UsageError(
            f"not a way to think: {rest!r}", hint="/think on|off|low|medium|high|show|fold|hide"
        )
    driver.out.say(f"thinking {session.settings.think}; thoughts: {session.settings.thoughts}")


def _image(driver: Driver, rest: str) -> None:
    driver.add_media("image", rest)


def _audio(driver: Driver, rest: str) -> None:
    driver.add_media("audio", rest)


def _save(driver: Driver, rest: str) -> None:
    from g4cli.operations.chat.saved import may_replace, save_chat

    if not rest:
        raise UsageError("where to?", hint="/save chat.json")
    path = Path(rest).expanduser()
    if not may_replace(path) and not driver.out.confirm(f"{path} is no chat of g4. Replace it?"):
        driver.out.say("not saved")
        return
    save_chat(driver.session.conversation, path)
    driver.out.say(f"saved {len(driver.session.conversation.turns)} turns: {path}")


def _load(driver: Driver, rest: str) -> None:
    from g4cli.operations.chat.saved import LIST, load_chat

    if not rest or rest == LIST:
        list_chats(driver.out)
        return
    driver.begin(load_chat(Path(rest)))
    driver.show_history()


def list_chats(out: Output) -> None:
    """Show the kept conversations, the newest first: name, turns, first question."""
    from g4cli.operations.chat.saved import chat_names, load_chat

    rows = []
    for name in chat_names()[:_MOST_LISTED]:
        with out.errors_shown():
            turns = load_chat(Path(name)).turns
            first = next((turn.content for turn in turns if turn.role == "user"), "")
            rows.append({"name": name, "turns": len(turns), "question": _short(first, 40)})

    def render() -> None:
        for row in rows:
            out.line(f"{row['name']:<20}  {row['turns']:>3} turns  {row['question']}")
        if not rows:
            out.say("no chat is kept yet")

    out.result(rows, render, brief="\n".join(str(row["name"]) for row in rows))


def _stats(driver: Driver, rest: str) -> None:
    session = driver.session
    if rest in ("on", "off"):
        session.settings = replace(session.settings, stats=rest == "on")
    elif rest:
        raise UsageError(f"not a choice: {rest!r}", hint="/stats on|off")
    driver.show_stats()


def _fit(driver: Driver, _rest: str) -> None:
    engine = driver.session.engine
    loaded = engine.loaded
    driver.out.line(f"weights   {size_text(loaded.size_bytes)}")
    driver.out.line(f"KV cache  {size_text(loaded.kv_bytes)} ({engine.n_ctx:,} tokens)")
    driver.out.line(f"compute   {size_text(loaded.compute_bytes)}")


def _model(driver: Driver, rest: str) -> None:
    if rest:
        from g4cli.cli.chat.run import check_model

        # What can be seen from outside must be right before this model is given up.
        check_model(driver.out, rest, expand=driver.session.request.expand)
        driver.next_model = rest
        return
    path, loaded = driver.session.engine.path, driver.session.engine.loaded
    driver.out.line(f"{path.name}: {loaded.description}, {size_text(loaded.size_bytes)}")
    driver.out.line(f"{path}")


def _quit(driver: Driver, _rest: str) -> None:
    driver.finished = True


COMMANDS: Final[tuple[Command, ...]] = (
    Command("help", "", "this list", _help),
    Command("clear", "", "forget the conversation", _clear),
    Command("undo", "", "take the last question and answer back", _undo),
    Command("retry", "", "answer the last question again", _retry),
    Command("edit", "", "change the last question and ask again", _edit),
    Command("system", "[TEXT|off]", "show or set the system text", _system, choices=("off",)),
    Command(
        "think", "[on|off|low|...]", "think first; show, fold or hide it", _think,
        choices=("on", "off", "low", "medium", "high", "show", "fold", "hide"),
    ),
    Command("image", "FILE", "a picture for the next question", _image, takes_path=True),
    Command("audio", "FILE", "a sound for the next question", _audio, takes_path=True),
    Command("save", "FILE", "write the conversation as JSON", _save, takes_path=True),
    Command("load", "[NAME|FILE]", "go on with a kept chat or a file, or list", _load, takes_path=True),
    Command("stats", "[on|off]", "speeds of the last answer, or of each", _stats, choices=("on", "off")),
    Command("fit", "", "the memory that this chat takes", _fit),
    Command("model", "[MODEL]", "show the model, or change it", _model),
    Command("quit", "", "leave (also Ctrl-D)", _quit),
)  # fmt: skip

_BY_NAME: Final = {command.name: command for command in COMMANDS} | {
    "bye": next(c for c in COMMANDS if c.name == "quit"),
    "exit": next(c for c in COMMANDS if c.name == "quit"),
    "?": COMMANDS[0],
}


def run_command(driver: Driver, line: str) -> None:
    """Run the command in `line` ('/name rest'). Raises UsageError if there is none of that name."""
    from difflib import get_close_matches

    name, _, rest = line[1:].partition(" ")
    command = _BY_NAME.get(name)
    if command is None:
        near = get_close_matches(name, _BY_NAME, 1)
        raise UsageError(f"no command /{name}", hint=f"/{near[0]}" if near else "/help")
    command.run(driver, rest.strip())


def _short(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."

"""`g4 chats export`, `rename` and `delete`."""

from __future__ import annotations

import typer

from g4cli.cli.options.chats import ChatArg, ChatsArg, ExportArg, FormatOpt, TitleArg
from g4cli.cli.options.common import ForceOpt, JsonOpt, QuietOpt, YesOpt
from g4cli.cli.output import make_output
from g4cli.core.errors import Interrupted, UsageError


def export(
    chat: ChatArg,
    file: ExportArg = None,
    form: FormatOpt = "auto",
    force: ForceOpt = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Write a conversation as Markdown or JSON, without FILE to standard output.

    "g4 chat --resume FILE" continues the JSON form, also on another machine.

    \b
    Examples:
      g4 chats export 12 holiday.md
      g4 chats export last chat.json
      g4 chats export 12 --format md | less
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.core.files import atomic_file
    from g4cli.core.visible import json_text
    from g4cli.operations.chat.saved import load_chat
    from g4cli.store.conversations.export import to_json, to_markdown

    stored = load_chat(chat)
    if form == "auto":
        is_json = json if file is None else file.suffix.lower() == ".json"
        form = "json" if is_json else "md"
    text = json_text(to_json(stored), indent=1) if form == "json" else to_markdown(stored)
    if file is None:
        out.write_text(text)
        return
    if file.exists() and not force:
        raise UsageError(f"{file} exists already", hint="--force overwrites it")
    with atomic_file(file, mode=0o600) as writer:
        writer.write(text.encode("utf-8", "replace"))
    data = {"file": str(file), "turns": len(stored.turns)}
    out.result(data, lambda: out.say(f"wrote {file}"), brief=str(file))


def rename(
    chat: ChatArg,
    title: TitleArg,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Give a conversation another title; the first question is its title until then.

    \b
    Examples:
      g4 chats rename 12 "Holiday plans"
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.operations.chat.saved import load_stored_chat
    from g4cli.store.conversations.export import summary_to_json
    from g4cli.store.conversations.store import ConversationStore

    with ConversationStore.open() as store:
        id_ = load_stored_chat(store, chat).summary.id
        store.rename(id_, title)
        summary = store.load(id_).summary
    out.result(summary_to_json(summary), lambda: out.say(f"{id_}: {summary.title}"))


def delete(
    chats: ChatsArg,
    yes: YesOpt = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Delete conversations for good, after asking for confirmation.

    \b
    Examples:
      g4 chats delete 12
      g4 chats delete 3 4 5 --yes
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.saved_chats import shorten_line
    from g4cli.core.units import count_text
    from g4cli.operations.chat.saved import load_stored_chat
    from g4cli.store.conversations.export import summary_to_json
    from g4cli.store.conversations.store import ConversationStore

    with ConversationStore.open() as store:
        summaries = [load_stored_chat(store, name).summary for name in chats]
        found = list({summary.id: summary for summary in summaries}.values())
        for summary in found:
            out.say(f"{summary.id:>5}  {shorten_line(summary.title)}")
        what = count_text(len(found), "conversation")
        if not yes and not out.confirm(f"Delete {what}?"):
            out.say("nothing was deleted")
            raise typer.Exit(Interrupted.exit_code)
        for summary in found:
            store.delete(summary.id)
    rows = [summary_to_json(summary) for summary in found]
    out.result({"deleted": rows}, lambda: out.line(f"deleted {what}"))

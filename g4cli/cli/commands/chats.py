"""`g4 chats list`, `search` and `show`: the saved conversations."""

from __future__ import annotations

from g4cli.cli.options.chats import ChatArg, LimitOpt, WordsArg
from g4cli.cli.options.common import JsonOpt, QuietOpt
from g4cli.cli.output import make_output


def list_chats(limit: LimitOpt = 30, json: JsonOpt = False, quiet: QuietOpt = False) -> None:
    """List the saved conversations, the latest first. "g4 chats" alone does the same.

    \b
    Examples:
      g4 chats
      g4 chats list -n 0 --json
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.saved_chats import draw_chats
    from g4cli.store.conversations.export import summary_to_json
    from g4cli.store.conversations.store import ConversationStore

    with ConversationStore.open() as store:
        summaries = store.list_conversations(limit=limit)
    out.result(
        [summary_to_json(summary) for summary in summaries],
        lambda: draw_chats(out, summaries),
        brief=[str(summary.id) for summary in summaries],
    )


def search(
    text: WordsArg,
    limit: LimitOpt = 30,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Find conversations with all of the words in one turn, or in the title.

    Case and accents do not count, and the last word may be the beginning of one. If nothing is
    found, the text is searched as it stands, also inside of words.

    \b
    Examples:
      g4 chats search quantization
      g4 chats search "gguf header" --json
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.saved_chats import draw_hits
    from g4cli.store.conversations.export import summary_to_json
    from g4cli.store.conversations.store import ConversationStore

    with ConversationStore.open() as store:
        hits = store.search(" ".join(text), limit=limit)
    out.result(
        [{**summary_to_json(hit.summary), "excerpt": hit.excerpt} for hit in hits],
        lambda: draw_hits(out, hits),
        brief=[str(hit.summary.id) for hit in hits],
    )


def show(chat: ChatArg = "last", json: JsonOpt = False, quiet: QuietOpt = False) -> None:
    """Show a conversation, by default the last one.

    \b
    Examples:
      g4 chats show
      g4 chats show 12
      g4 chats show 12 --json
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.saved_chats import draw_chat
    from g4cli.operations.chat.saved import load_chat
    from g4cli.store.conversations.export import to_json

    stored = load_chat(chat)
    answers = [message.content for message in stored.messages if message.role == "assistant"]
    out.result(to_json(stored), lambda: draw_chat(out, stored), brief=answers)

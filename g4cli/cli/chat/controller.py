"""The controller of a conversation: it asks questions, collects media and saves the chat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from g4cli.cli.chat.consent import answer_with_consent
from g4cli.cli.views.chat import draw_turns, make_view
from g4cli.cli.views.reply import describe_end, format_stats
from g4cli.core.errors import G4Error, UsageError
from g4cli.core.files import require_file
from g4cli.prompt.messages import Media, Message

if TYPE_CHECKING:
    from pathlib import Path

    from g4cli.chat import Conversation, Reply
    from g4cli.cli.chat.display import ChatDisplay
    from g4cli.cli.output import Output
    from g4cli.operations.chat.recording import ChatRecorder
    from g4cli.operations.chat.session import ChatSession
    from g4cli.operations.svg import CheckedDrawing
    from g4cli.operations.tools.toolbox import Toolbox


class ChatController:
    """What a line of the user does: ask a question, add media, save the conversation.

    The loop in repl.py calls it, and the functions of slash_commands.py change it. After each line
    the loop ends if `finished` is set or `next_model` is the model that /model named. `prefill` is
    the text that the next input line begins with, `edited` the question that /edit put there. The
    next question asks about `media`.
    """

    def __init__(
        self,
        out: Output,
        session: ChatSession,
        display: ChatDisplay,
        recorder: ChatRecorder,
        toolbox: Toolbox | None = None,
    ) -> None:
        """`toolbox`: the tools that are run when the model calls them."""
        self.out, self.session, self.display = out, session, display
        self.recorder, self.toolbox = recorder, toolbox
        self.prefill = ""
        self.edited: Message | None = None
        self.media: list[Media] = []
        self.finished = False
        self.next_model: str | None = None
        self._last_reply: Reply | None = None

    def ask_with_media(self, text: str, *, edited: Message | None = None) -> None:
        """Ask `text` about the added media; if `edited` is given, in place of that question."""
        media, self.media = self.media, []
        if edited is not None:
            media = [*edited.media, *media]
        self.ask(text, media, replaces_last=edited is not None)

    def add_media(self, kind: Literal["image", "audio"], path: Path, *, asks: bool = False) -> bool:
        """Encode the file `path` and add it to the next question; return False if Ctrl-C stops it.

        `asks`: the question follows at once, so that the user is not told to ask it.
        Raises FileMissing, BadMedia or UsageError (the model has no encoder).
        """
        # An absolute path, since the conversation may be continued from another folder.
        medium = Media(kind, path.absolute())
        require_file(medium.path)
        self.session.require_encoder()
        with make_view(self.out, self.display.thoughts) as view:
            encoded = self.session.encode_media([medium], view)
        if encoded is None:
            self.out.say(f"stopped: {medium.path.name} was not added")
            return False
        note = "" if asks else "; now ask about it"
        self.out.say(f"{medium.path.name}: {encoded[0].n_tokens} tokens{note}")
        self.media.append(medium)
        return True

    def ask(self, text: str, media: Sequence[Media] = (), *, replaces_last: bool = False) -> None:
        """Ask `text` about `media`, show the answer and save both, even after an interruption.

        With `replaces_last` it is asked in place of the last question.
        """
        session = self.session
        before = replace(session.conversation, turns=session.conversation.turns[:])
        if replaces_last:
            session.conversation.undo()
        session.conversation.ask(text, media)
        self.save()
        with _undo_on_error(session, before):
            reply = answer_with_consent(
                self.out, self.toolbox, self._answer, session.conversation.answer
            )
        self._last_reply = reply
        self.recorder.save(session.conversation, reply)
        if reply.finish_reason == "interrupted":
            self.out.say("stopped; /retry answers again, /undo removes the question")
        elif what := describe_end(reply, session):
            self.out.warn(what)
        if "<svg" in reply.text:
            from g4cli.cli.views.svg import summarize_check

            summary = summarize_check(self.find_drawing())
            self.out.say(f"the drawing: {summary}; /svg shows it, /svg FILE saves it")
        if self.display.stats:
            self.show_stats()

    def _answer(self) -> Reply:
        """Let the model answer what there is of the conversation."""
        shows_calls = self.toolbox is None  # each call that g4 runs is shown once, with its source
        with make_view(self.out, self.display.thoughts, shows_calls=shows_calls) as view:
            return self.session.run_turn(self.recorder.watch(view, self.session.conversation))

    def find_drawing(self) -> CheckedDrawing:
        """Return the newest drawing of the chat, repaired. Raises UsageError if there is none."""
        # Imported here: its rules take 0.1 s to load, and few conversations have a drawing.
        from g4cli.operations.svg import check_drawing

        for turn in reversed(self.session.conversation.turns):
            if turn.role == "assistant" and "<svg" in turn.content:
                return check_drawing(turn.content, "the drawing")
        raise UsageError(
            "no answer contains a drawing", hint="ask the model to draw something as SVG"
        )

    def switch_conversation(self, conversation: Conversation) -> None:
        """Save the current conversation and continue with another one."""
        self.save()
        self.session.conversation = conversation
        self._last_reply = None

    def save(self) -> None:
        """Save the conversation for --continue and --resume."""
        self.recorder.save(self.session.conversation)

    def show_stats(self) -> None:
        """Show the speeds of the last answer."""
        if self._last_reply is None:
            self.out.say("no answer yet")
        else:
            self.out.say(format_stats(self.session, self._last_reply))

    def show_history(self) -> None:
        """Show all turns of the conversation, after /load or --resume."""
        draw_turns(self.out, self.session.conversation.turns)


@contextmanager
def _undo_on_error(session: ChatSession, before: Conversation) -> Iterator[None]:
    """Leave no question without an answer in the conversation, however the block ends.

    After an expected error the turns are those of `before`, unless the worker process has ended:
    then the session has added what there was of an answer. If anything else ends the block, such as
    a closed terminal, the question is kept with an empty answer.
    """
    try:
        yield
    except G4Error:
        if not session.engine.has_ended:
            session.conversation.turns = before.turns
            session.conversation.n_dropped = before.n_dropped
        raise
    except BaseException:
        session.conversation.answer(Message("assistant", ""))
        raise

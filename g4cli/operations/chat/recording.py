"""Save a conversation while it is held: each question, each answer, and what there is of an answer.

What is stored is compared with the turns of the conversation, so /undo, /edit and /retry need no
code of their own: a turn that differs begins another branch, and the old one stays in the database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from g4cli.chat import Conversation, Finished, LoopNoticed, Reply, TurnEvent, View
from g4cli.core.errors import G4Error
from g4cli.prompt.messages import Message
from g4cli.prompt.reply import AnswerText, ThoughtText
from g4cli.store.conversations.records import reply_figures
from g4cli.store.conversations.store import ConversationStore

if TYPE_CHECKING:
    from g4cli.core.reporter import Reporter

INTERVAL_S: Final = 1.0
"""How often an unfinished answer is saved: a choice, a second of writing may be lost."""


class ChatRecorder:
    """Saves conversations in the database, which is opened when there is something to save.

    If that fails, it warns once and does not try again. `model` is the name to store with answers,
    `describe_settings` returns their sampling parameters. A `private` recorder saves nothing.
    An unfinished answer is saved every `interval_s` seconds.
    """

    def __init__(
        self,
        reporter: Reporter,
        model: str,
        describe_settings: Callable[[], Mapping[str, Any]],
        *,
        private: bool = False,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._reporter, self._model = reporter, model
        self._describe_settings = describe_settings
        self._store: ConversationStore | None = None
        self._works = not private  # False after an error too
        self.interval_s = interval_s
        self._partial: int | None = None  # the turn of the answer that is being written
        self._partial_message = Message("assistant", "")

    def close(self) -> None:
        """Close the database."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def save(self, conversation: Conversation, reply: Reply | None = None) -> None:
        """Save what is not saved yet; `reply` is the last turn with its figures, if known."""
        if not self._works or (not conversation.turns and conversation.stored_id is None):
            return
        try:
            self._save_turns(self._open(), conversation, reply)
        except G4Error as err:
            self._give_up(err)

    def save_partial(self, conversation: Conversation, message: Message) -> None:
        """Save what there is of the answer to the last question, which is saved already."""
        if not self._works or conversation.stored_id is None or not conversation.stored:
            return
        try:
            store = self._open()
            if len(conversation.turns) > len(conversation.stored):  # a call of a tool came before
                self._save_turns(store, conversation, None)
            if self._partial is None:
                self._partial = store.append(
                    conversation.stored_id,
                    message,
                    parent=_find_last_id(conversation.stored),
                    model=self._model,
                    finish_reason="partial",
                    settings=self._describe_settings(),
                )
            else:
                store.update_answer(self._partial, message, finish_reason="partial")
            self._partial_message = message
        except G4Error as err:
            self._give_up(err)

    def watch(self, view: View, conversation: Conversation) -> View:
        """Return a view that shows what `view` does, and saves the answer once a second."""
        return _RecordingView(view, self, conversation) if self._works else view

    def _open(self) -> ConversationStore:
        if self._store is None:
            self._store = ConversationStore.open()
        return self._store

    def _give_up(self, err: G4Error) -> None:
        self._works = False
        self._reporter.warn(f"this conversation is not saved: {err.message}")

    def _save_turns(
        self, store: ConversationStore, conversation: Conversation, reply: Reply | None
    ) -> None:
        """Save the turns that are not stored: a new branch, if others are stored in their place."""
        stored = conversation.stored
        if conversation.stored_id is None:
            conversation.stored_id = store.create(system=conversation.system)
            stored.clear()
        else:
            store.set_system(conversation.stored_id, conversation.system)
        n_same = 0  # turns that are stored as they are
        for (_, known), turn in zip(stored, conversation.turns, strict=False):
            if known != turn:
                break
            n_same += 1
        if n_same < len(stored):
            del stored[n_same:]
            store.set_head(conversation.stored_id, _find_last_id(stored))
        for turn in conversation.turns[n_same:]:
            is_last = len(stored) == len(conversation.turns) - 1
            answered = reply if is_last and turn.role == "assistant" else None
            id_ = self._save_turn(store, conversation, turn, answered)
            stored.append((id_, turn))

    def _save_turn(
        self,
        store: ConversationStore,
        conversation: Conversation,
        turn: Message,
        reply: Reply | None,
    ) -> int:
        """Return the id of a turn: a new one, or that of the answer which was saved in part."""
        assert conversation.stored_id is not None
        finish_reason = "" if reply is None else reply.finish_reason
        figures = None if reply is None else reply_figures(reply)
        is_answer = turn.role == "assistant"
        partial, self._partial = self._partial, None
        if is_answer and partial is not None:
            # The session adds an empty answer if it was stopped from outside.
            is_empty = not (turn.content or turn.thought or turn.tool_calls)
            message = self._partial_message if is_empty else turn
            finish_reason = finish_reason or ("" if turn.tool_calls else "interrupted")
            store.update_answer(partial, message, finish_reason=finish_reason, figures=figures)
            return partial
        return store.append(
            conversation.stored_id,
            turn,
            parent=_find_last_id(conversation.stored),
            model=self._model if is_answer else "",
            finish_reason=finish_reason,
            settings=self._describe_settings() if is_answer else None,
            figures=figures,
        )


def _find_last_id(stored: Sequence[tuple[int, Message]]) -> int | None:
    """Return the id of the last of the stored turns (id, message), None if there is none."""
    return stored[-1][0] if stored else None


class _RecordingView(View):
    """Passes everything on to another view and saves the answer once a second."""

    def __init__(self, view: View, recorder: ChatRecorder, conversation: Conversation) -> None:
        self._view, self._recorder, self._conversation = view, recorder, conversation
        self._text: list[str] = []
        self._thought: list[str] = []
        self._saved_at = time.monotonic()

    def show_waiting(self) -> None:
        self._view.show_waiting()

    def show_encoding(self, name: str) -> None:
        self._view.show_encoding(name)

    def show_reading(self, done: int, total: int, part: str) -> None:
        self._view.show_reading(done, total, part)

    def show(self, event: TurnEvent) -> None:
        """Show an event of the turn, and save the answer so far if it is time."""
        self._view.show(event)
        if isinstance(event, AnswerText):
            self._text.append(event.text)
        elif isinstance(event, ThoughtText):
            self._thought.append(event.text)
        elif isinstance(event, LoopNoticed) and event.retried:
            self._text, self._thought = [event.text], [event.thought]
        elif isinstance(event, Finished):
            return
        if time.monotonic() - self._saved_at >= self._recorder.interval_s and (
            self._text or self._thought
        ):
            message = Message("assistant", "".join(self._text), thought="".join(self._thought))
            self._recorder.save_partial(self._conversation, message)
            self._saved_at = time.monotonic()

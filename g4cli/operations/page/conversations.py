"""The conversations of the page: those of the store, with the answers that are being written."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from g4cli.core.errors import BadField, BadFile, NotFound
from g4cli.core.media_file import FORMATS, media_kind_of
from g4cli.operations.page.answers import PageAnswer
from g4cli.operations.page.models import write_doctor_command
from g4cli.operations.serving.requests import TurnRequest
from g4cli.operations.serving.service import Service
from g4cli.prompt.messages import Media, Message
from g4cli.store.conversations.database import media_dir
from g4cli.store.conversations.records import (
    SearchHit,
    StoredConversation,
    StoredTurn,
    reply_figures,
)
from g4cli.store.conversations.store import ConversationStore

SOURCE: Final = "page"  # of a conversation, in the store
_MAX_SEARCH_CHARACTERS: Final = 500  # a choice
_NAME_DIGITS: Final = 64  # kept images and sounds are named by their sha256
_SETTINGS: Final = ("thinking", "max_tokens", "stop_on_loop", "sampling")  # kept of a request
_LOG: Final = logging.getLogger("g4.serve")
T = TypeVar("T")


class PageConversations:
    """Conversations and their answers under way. `private`: nothing is kept after the server ends.

    All methods that use the store raise what ConversationStore raises.
    """

    def __init__(self, service: Service, *, private: bool = False) -> None:
        self._service, self._private = service, private
        self._store: ConversationStore | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._opening = asyncio.Lock()
        self.answers: dict[int, PageAnswer] = {}  # those under way, by the id of their turn

    # --- reading

    async def list(self, text: str = "", *, limit: int = 200) -> tuple[SearchHit, ...]:
        """Return the conversations that hold `text`, the one written last first; "": all."""
        if text.strip():
            return await self._ask_store(
                lambda store: store.search(text[:_MAX_SEARCH_CHARACTERS], limit=limit)
            )
        summaries = await self._ask_store(lambda store: store.list_conversations(limit=limit))
        shown = (summary for summary in summaries if summary.head is not None)  # those with turns
        return tuple(SearchHit(summary, None, "") for summary in shown)

    async def load(self, conversation: int) -> StoredConversation:
        """Return the branch of a conversation that is shown. Raises NotFound."""
        return await self._ask_store(lambda store: store.load(conversation))

    async def find_media(self, conversation: int, turn: int, number: int) -> Media:
        """Return an image or a sound of a turn. Raises NotFound."""
        turns = await self._ask_store(lambda store: store.load_turns(conversation))
        media = next((item.message.media for item in turns if item.id == turn), ())
        if not 0 <= number < len(media):
            raise NotFound("there is no such image or sound")
        return media[number]

    # --- writing

    async def create(self, system: str = "") -> int:
        """Return the id of a new conversation."""
        return await self._ask_store(lambda store: store.create(system=system, source=SOURCE))

    async def change(
        self, conversation: int, *, system: str | None, title: str | None, branch: int | None
    ) -> None:
        """Replace the system prompt or the title, or show the branch through the turn `branch`.

        None leaves it as it is. Raises NotFound.
        """

        def change_stored(store: ConversationStore) -> None:
            if system is not None:
                store.set_system(conversation, system)
            if title is not None:
                store.rename(conversation, title)
            if branch is not None:
                store.show_branch(conversation, branch)

        await self._ask_store(change_stored)

    async def delete(self, conversation: int) -> None:
        """Delete a conversation; its answers under way are stopped first. Raises NotFound."""
        await self._stop_answers(conversation)
        await self._ask_store(lambda store: store.delete(conversation))

    async def delete_turn(self, conversation: int, turn: int) -> bool:
        """Delete a turn and all that follow it; return whether any turn is left. Raises NotFound.

        Answers under way among them are stopped.
        """
        is_left = await self._ask_store(lambda store: store.delete_turn(conversation, turn))
        turns: tuple[StoredTurn, ...] = ()
        if is_left:
            turns = await self._ask_store(lambda store: store.load_turns(conversation))
        left = {item.id for item in turns}
        await self._stop_answers(conversation, left)
        return is_left

    async def keep_media(self, data: bytes) -> Media:
        """Return `data`, an image or a sound, as a file. Raises BadField."""
        detected = media_kind_of(data)
        if detected not in ("image", "audio"):
            formats = f"{FORMATS['image']}; {FORMATS['audio']}"
            raise BadField("file", f"not an image or sound that g4 reads ({formats})")
        kind: Literal["image", "audio"] = "image" if detected == "image" else "audio"
        if self._private:
            media = await asyncio.to_thread(self._service.media.store, kind, data)
            self._service.media.use([media])  # until the server ends: nothing else keeps it
            return media
        return await self._ask_store(lambda store: store.keep_media(kind, data, ""))

    def find_kept_media(self, kind: Literal["image", "audio"], name: str) -> Media:
        """Return what `keep_media` kept under the file name `name`. Raises NotFound."""
        if len(name) == _NAME_DIGITS and all(char in "0123456789abcdef" for char in name):
            kept = [path for path in self._service.media.paths if path.name == name]
            for path in (media_dir() / name, *kept):
                if path.is_file():
                    return Media(kind, path)
        raise NotFound("this image or sound is no longer here: attach it again")

    async def ask(
        self, conversation: int, message: Message, *, parent: int | None, request: TurnRequest
    ) -> PageAnswer:
        """Append a question after the turn `parent` and begin its answer. Raises NotFound.

        `request` says how to answer; its messages are those of the branch.
        """
        request = self._name_model(request)
        turn = await self._ask_store(
            lambda store: store.append(conversation, message, parent=parent)
        )
        return await self._begin_answer(conversation, turn, request)

    async def answer_again(
        self, conversation: int, question: int, request: TurnRequest
    ) -> PageAnswer:
        """Begin one more answer to the turn `question`, as `request` says. Raises NotFound."""
        return await self._begin_answer(conversation, question, self._name_model(request))

    async def close(self) -> None:
        """Stop all answers, save them, and close the store."""
        await asyncio.gather(*(answer.stop() for answer in list(self.answers.values())))
        if self._store is not None:
            self._store.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _name_model(self, request: TurnRequest) -> TurnRequest:
        return replace(request, model=self._service.find_model(request.model).name)

    async def _begin_answer(
        self, conversation: int, question: int, request: TurnRequest
    ) -> PageAnswer:
        stored = await self._ask_store(lambda store: store.load(conversation, head=question))
        system = stored.summary.system
        messages = [Message("system", system)] if system else []
        messages += [message for message in stored.messages if _has_content(message)]
        request = replace(request, messages=tuple(messages))
        turn = await self._ask_store(
            lambda store: store.append(
                conversation,
                Message("assistant", ""),
                parent=question,
                model=request.model,
                finish_reason="partial",
                settings={name: getattr(request, name) for name in _SETTINGS},
            )
        )
        answer = self.answers[turn] = PageAnswer(conversation, turn, request)
        answer.start(self._service, self._save)
        return answer

    async def _save(self, answer: PageAnswer) -> None:
        if answer.is_bug and answer.error is not None:
            _LOG.error("a bug in g4 in an answer of the page", exc_info=answer.error.__cause__)
        try:
            # Visitors from the network learn no paths of this machine.
            if answer.loop is not None and not self._private:
                answer.doctor_command = await asyncio.to_thread(
                    write_doctor_command, self._service, answer.model
                )
            await self._ask_store(
                lambda store: store.update_answer(
                    answer.turn,
                    answer.message,
                    finish_reason=answer.finish_reason,
                    figures=collect_figures(answer),
                )
            )
        except NotFound:
            pass  # it was deleted meanwhile
        except Exception as err:
            _LOG.error("an answer of the page was not saved: %s", err)
        finally:
            if answer.state == "done":
                self.answers.pop(answer.turn, None)

    async def _stop_answers(self, conversation: int, spared: Collection[int] = ()) -> None:
        """Stop the answers under way in a conversation, but those to be kept: ids of turns."""
        running = [a for a in self.answers.values() if a.conversation == conversation]
        await asyncio.gather(*(answer.stop() for answer in running if answer.turn not in spared))

    async def _ask_store(self, question: Callable[[ConversationStore], T]) -> T:
        """Return the answer of the store; it may block, and waits for the disk."""
        async with self._opening:
            if self._store is None:
                self._store = await asyncio.to_thread(self._open_store)
        return await asyncio.to_thread(question, self._store)

    def _open_store(self) -> ConversationStore:
        path = None
        if self._private:
            self._folder = tempfile.TemporaryDirectory(prefix="g4-page-")
            path = Path(self._folder.name) / "conversations.db"
        try:
            return ConversationStore.open(path)
        except BadFile as err:  # a damaged database was moved aside
            _LOG.error("%s", err.message)
            return ConversationStore.open(path)


def _has_content(message: Message) -> bool:
    """Return whether a message is a part of the prompt: answers that failed at once are not."""
    return message.role != "assistant" or bool(message.content or message.tool_calls)


def collect_figures(answer: PageAnswer) -> dict[str, Any]:
    """Return what is stored of an answer besides its text: figures, its loop, its error."""
    figures: dict[str, Any] = {}
    if answer.reply is not None:
        figures |= reply_figures(answer.reply)
    if answer.thought:
        figures["thought_s"] = round(answer.thought_s, 1)
    if answer.n_dropped:
        figures["dropped_messages"] = answer.n_dropped
    if answer.loop is not None:
        figures["loop"] = {**asdict(answer.loop), "command": answer.doctor_command}
    if answer.reply is not None and answer.reply.context_full:
        figures["context_full"] = True
    if answer.error is not None:
        figures["error"] = {"message": answer.error.message, "hint": answer.error.hint or ""}
    return figures

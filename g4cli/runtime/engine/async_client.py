"""One model in a worker process, for a server: many turns at once, and no crash is the last word.

When the worker ends, by a crash or by a kill, the requests in flight raise how it ended (see
`ending`). The next request starts another worker with the same model; requests that come while it
loads wait for the same start.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from g4cli.chat import PromptRead, TurnEvent
from g4cli.core.errors import G4Error, QueueFull, RuntimeFailed, too_many_tokens
from g4cli.core.units import count_text
from g4cli.prompt.messages import Part
from g4cli.runtime.engine.async_worker import AsyncWorkerProcess
from g4cli.runtime.engine.client import MODULE
from g4cli.runtime.engine.messages import (
    CODEC,
    AttachMedia,
    Detokenize,
    FindLongestPiece,
    FinishStates,
    Loaded,
    LongestPiece,
    Open,
    RunTurn,
    Text,
    Tokenize,
    Tokens,
)
from g4cli.runtime.engine.options import MediaOptions

_FINISH_S: Final = 5.0  # a choice: whoever ends a server does not want to wait long
# Of a prompt in one message: to write 16,000 parts takes 80 ms, in which no other request gets on.
_PARTS_AT_ONCE: Final = 256


@dataclass(eq=False, slots=True)
class ActiveTurn:
    """A turn in flight, for a server's list of slots. `slot`: None while it waits for one.

    `number`: of its request. Another worker process counts anew: two turns may have the same.
    """

    number: int
    prompt_tokens: int
    slot: int | None = None


class Places:
    """Limits how many requests are in progress or wait at once, to `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.n_taken = 0

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """Hold a place for the block. Raises QueueFull if there is none."""
        if self.n_taken >= self._most:
            raise QueueFull(
                f"{count_text(self.n_taken, 'request', 'are')} in progress or waiting already",
                hint="try again later, or start the server with a larger --queue",
            )
        self.n_taken += 1
        try:
            yield
        finally:
            self.n_taken -= 1


class AsyncEngine:
    """One model for many requests. Use it from one event loop; close it when done."""

    def __init__(self, request: Open, media: MediaOptions | None = None, *, n_queue: int = 64):
        """`n_queue`: how many turns may wait for a slot. Nothing is started yet: see `start`.

        `turn_places` limits turns, `question_places` what takes milliseconds, such as `tokens_of`.
        The caller takes the places (operations/serving/service.py); the engine takes none.
        """
        self.request = request
        self._media = media
        most = request.context.n_parallel + n_queue
        self.turn_places, self.question_places = Places(most), Places(most)
        self._longest_piece: int | None = None
        self._worker: AsyncWorkerProcess | None = None
        self._starting: asyncio.Task[AsyncWorkerProcess] | None = None
        self._loaded: Loaded | None = None
        self._turns: list[ActiveTurn] = []
        self._closed = False
        self.n_starts = 0

    @classmethod
    async def start(
        cls, request: Open, media: MediaOptions | None = None, *, n_queue: int = 64
    ) -> AsyncEngine:
        """Return an engine with its model loaded.

        Raises BadFile (llama.cpp crashed of the file), EngineMissing, RuntimeFailed, NoMemory or
        UsageError (no such device, KV type or drafter; the file of `media` is no encoder).
        """
        engine = cls(request, media, n_queue=n_queue)
        try:
            await engine._get_worker()
        except BaseException:
            await engine.close()
            raise
        return engine

    @property
    def loaded(self) -> Loaded:
        """Return the facts of the loaded model. Raises RuntimeFailed before it was loaded."""
        if self._loaded is None:
            raise RuntimeFailed("no model is loaded")
        return self._loaded

    @property
    def pid(self) -> int:
        """Return the id of the worker process, 0 without one."""
        return self._worker.pid if self._worker is not None else 0

    @property
    def has_media(self) -> bool:
        """Return whether an encoder of images and sound is attached."""
        return self._media is not None

    @property
    def active_turns(self) -> tuple[ActiveTurn, ...]:
        """Return the turns in flight, oldest first."""
        return tuple(self._turns)

    @property
    def n_waiting(self) -> int:
        """Return how many places for turns are taken beyond the slots."""
        return max(0, self.turn_places.n_taken - self.request.context.n_parallel)

    async def tokens_of(
        self, parts: Sequence[Part], *, with_bos: bool = True, most_tokens: int = 0
    ) -> tuple[int, ...]:
        """Return the tokens of a rendered prompt.

        `with_bos`: a BOS stands before them. `most_tokens`: as many as there may be, 0: as many as
        the context holds. Raises ContextFull, and BadMedia, UsageError or NotFound for an image or
        sound in it.
        """
        most = most_tokens or self.loaded.n_ctx
        n_bytes = sum(len(part.text.encode("utf-8", "replace")) for part in parts)
        # A text never has more tokens than bytes. One with more than `most` bytes is not even sent
        # if it has too many tokens even where each is the longest of the vocabulary.
        if n_bytes > most:
            if self._longest_piece is None:
                longest: LongestPiece = await self.ask_worker(FindLongestPiece())
                self._longest_piece = longest.n_bytes
            least = -(-n_bytes // self._longest_piece)  # rounded up
            if least > most:
                raise too_many_tokens(f"at least {least:,}", most)
        ids: list[int] = []
        for start in range(0, max(1, len(parts)), _PARTS_AT_ONCE):
            piece = tuple(parts[start : start + _PARTS_AT_ONCE])
            question = Tokenize(piece, with_bos and not start, most)
            tokens: Tokens = await self.ask_worker(question)
            ids += tokens.ids
            if len(ids) > most:
                raise too_many_tokens(f"at least {len(ids):,}", most)
        return tuple(ids)

    async def text_of(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, control tokens by their names.

        Raises UsageError (no such token).
        """
        text: Text = await self.ask_worker(Detokenize(tuple(tokens)))
        return text.text

    async def run_turn(self, request: RunTurn) -> AsyncGenerator[TurnEvent, None]:
        """Yield the events of a turn, Finished last. Closing the iterator cancels the turn.

        Whoever serves many clients takes a place first (`turn_places`). Raises ContextFull,
        UsageError (the grammar), ReaderTooSlow, or how the worker ended.
        """
        worker = await self._get_worker()
        answers = worker.send_request(request)
        turn = ActiveTurn(answers.number, len(request.prompt))
        self._turns.append(turn)
        try:
            async for answer in answers:
                if isinstance(answer, PromptRead):
                    turn.slot = answer.slot
                yield answer
        finally:
            self._turns.remove(turn)
            worker.cancel_request(answers)

    async def close(self) -> None:
        """End the worker: its memory is free when this returns."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._worker is not None:
            await self._finish_states(self._worker)
            await self._worker.close()

    async def _finish_states(self, worker: AsyncWorkerProcess) -> None:
        """Wait a moment for states of prompts that are being written, unless answers run."""
        if self.request.states is None or worker.has_ended or self._turns:
            return
        with contextlib.suppress(G4Error, TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(worker.ask(FinishStates(_FINISH_S)), _FINISH_S)

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def ask_worker(self, message: Any) -> Any:
        """Return the worker's answer to `message`, a request of the engine's protocol."""
        return await (await self._get_worker()).ask(message)

    async def _get_worker(self) -> AsyncWorkerProcess:
        """Return a worker with the model loaded.

        All that wait for a start wait for the same one.
        """
        if self._worker is not None and not self._worker.has_ended:
            return self._worker
        if self._closed:
            raise RuntimeFailed("the model is closed")
        if self._starting is None:
            self._starting = asyncio.create_task(self._start_worker())
            self._starting.add_done_callback(self._forget_start)
        # A request that is cancelled meanwhile must not cancel the start for the others.
        return await asyncio.shield(self._starting)

    def _forget_start(self, task: asyncio.Task[AsyncWorkerProcess]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # whoever waited has it: asyncio need not warn

    async def _start_worker(self) -> AsyncWorkerProcess:
        if self._worker is not None:
            await self._worker.close()
        self.n_starts += 1
        worker = AsyncWorkerProcess(MODULE, CODEC)
        try:
            await anext(worker.hello)
            worker.current_file = self.request.path
            self._loaded = await worker.ask(self.request)
            if self._media is not None:
                self._loaded = await worker.ask(AttachMedia(self._media))
        except BaseException:
            await worker.close()  # a worker without its model is of no use
            raise
        self._worker = worker
        return worker

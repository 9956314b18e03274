"""What a server does, without HTTP: list models, start answers, count tokens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.chat import Reply
from g4cli.core.errors import FileMissing, QueueFull, UsageError
from g4cli.operations.serving.catalog import Catalog, Offer, OfferFacts
from g4cli.operations.serving.loaded import LoadedModel, Turn, require_readable
from g4cli.operations.serving.media_files import MediaFiles
from g4cli.operations.serving.pool import ModelPool
from g4cli.operations.serving.requests import TurnRequest
from g4cli.prompt.messages import Part
from g4cli.runtime.engine.options import IMAGE_TOKENS

MIN_CTX: Final = 256
"""The shortest context that can be chosen, in tokens: llama.cpp rounds up to a multiple of it."""


@dataclass(frozen=True, kw_only=True)
class ServedModel(OfferFacts, Offer):
    """A model as clients see it; times are in Unix seconds.

    `mmproj`: the file of its encoder. While it is not loaded, `n_ctx`, `n_slots`, `loaded_at`,
    `memory_bytes` (weights, KV cache, compute buffers) and `gpu_bytes`, its part on GPUs, are 0;
    `unload_at` is 0 if it stays.
    """

    mmproj: Path | None = None
    n_ctx: int = 0
    n_slots: int = 0
    loaded_at: int = 0
    unload_at: int = 0
    memory_bytes: int = 0
    gpu_bytes: int = 0


@dataclass(slots=True)
class Counters:
    """Sums over all answers since the server started, as /metrics tells them.

    Prompt tokens are those that were evaluated; times are in seconds.
    """

    prompt_tokens: int = 0
    prompt_s: float = 0.0
    reused_tokens: int = 0
    predicted_tokens: int = 0
    predicted_s: float = 0.0
    answers: int = 0
    loops: int = 0

    def add_reply(self, reply: Reply) -> None:
        """Count a finished answer."""
        self.prompt_tokens += reply.evaluated_tokens
        self.prompt_s += reply.prompt_s
        self.reused_tokens += reply.reused_tokens
        self.predicted_tokens += reply.completion_tokens
        self.predicted_s += reply.decode_s
        self.answers += 1
        self.loops += reply.loop is not None


class Service:
    """The models on offer and those that are loaded. Close it when done."""

    def __init__(
        self,
        catalog: Catalog,
        pool: ModelPool,
        on_reply: Callable[[str, Reply], None] = lambda _model, _reply: None,
        *,
        image_tokens: int = IMAGE_TOKENS[-1],
        contexts: dict[str, int] | None = None,
    ) -> None:
        """`on_reply` is told every finished answer, with the name of its model.

        `image_tokens`: how many tokens an image has at most. `contexts`: those that `set_context`
        chooses, by the names of models; what opens them reads it.
        """
        self.image_tokens = image_tokens
        self.contexts: dict[str, int] = {} if contexts is None else contexts
        self._catalog, self.pool = catalog, pool
        self.media = MediaFiles()
        self.counters = Counters()
        self.is_loading = False  # the model of the command line, before requests can be answered
        self._on_reply = on_reply

    @property
    def is_fixed(self) -> bool:
        """Whether only the models of the command line are on offer."""
        return self._catalog.is_fixed

    def list_models(self) -> tuple[ServedModel, ...]:
        """Return the models on offer, the default first. Raises BadGGUF."""
        models = []
        for offer in self._catalog.list_offers():
            with suppress(FileMissing):  # deleted since: the others are still on offer
                models.append(self._describe_offer(offer))
        return tuple(models)

    def find_model(self, name: str) -> ServedModel:
        """Return the model called `name`; "" is the default. Raises UnknownModel or BadGGUF."""
        return self._describe_offer(self._catalog.find(name))

    @asynccontextmanager
    async def start_turn(
        self, request: TurnRequest, *, on_prompt: Callable[[int], None] = lambda _n_tokens: None
    ) -> AsyncIterator[Turn]:
        """Yield the answer to `request`, begun: its prompt is read. It is ended with the block.

        `on_prompt` is told before that how many tokens the prompt has.
        Raises UnknownModel, what opening a model raises, UsageError (BadField with the field's
        name), ContextFull, BadMedia, QueueFull or RuntimeFailed.
        """
        with self._hold_media(request):
            async with self._use_model(request.model, request.keep_alive_s) as model:
                # A place is taken before any work is done for the request.
                with model.engine.turn_places.take():
                    run = await model.make_run(request)
                    on_prompt(len(run.prompt))
                    field = request.form_field if request.json_schema or request.grammar else ""
                    turn = Turn(model, run, self._count_reply, field)
                    try:
                        await turn.start()
                        yield turn
                    finally:
                        await turn.close()

    async def count_tokens(self, request: TurnRequest) -> int:
        """Return how many tokens the prompt of `request` has. Raises what start_turn raises."""
        with self._hold_media(request):
            async with self._use_without_slot(request.model) as model:
                return len(await model.make_prompt(request))

    async def render_prompt(self, request: TurnRequest) -> str:
        """Return the prompt of `request` as text. Raises what start_turn raises."""
        async with self._use_without_slot(request.model) as model:
            return "".join(part.text for part in await model.render_parts(request))

    async def tokenize(
        self, model_name: str, text: str, *, control: bool, with_bos: bool
    ) -> tuple[int, ...]:
        """Return the tokens of `text`, with a BOS first if `with_bos`.

        `control`: '<|turn>' in it is one token. Raises ContextFull if the text is too long for any
        context.
        """
        require_readable(len(text))
        async with self._use_without_slot(model_name) as model:
            parts = [Part(text, control=control)]
            most = max(model.n_ctx, model.engine.loaded.n_ctx_train)
            return await model.engine.tokens_of(parts, with_bos=with_bos, most_tokens=most)

    async def detokenize(self, model_name: str, tokens: tuple[int, ...]) -> str:
        """Return the text of tokens, control tokens by their names. Raises UsageError."""
        async with self._use_without_slot(model_name) as model:
            model.require_tokens(tokens, "tokens")
            return await model.engine.text_of(tokens)

    async def load(self, name: str, keep_alive_s: float | None = None) -> int:
        """Load the model `name` unless it is loaded, and return the context of a request in tokens.

        Raises what opening the model raises.
        """
        async with self._use_model(name, keep_alive_s) as model:
            return model.n_ctx

    async def unload(self, name: str) -> None:
        """End the model `name`, or let it end after its requests. Raises UnknownModel."""
        await self.pool.unload(self._catalog.find(name).name)

    async def set_context(self, name: str, n_ctx: int) -> int:
        """Load the model `name` again with a context of `n_ctx` tokens; return what it has now.

        0: what it has without a choice. Raises UnknownModel, UsageError for a size that the model
        does not have, QueueFull while it is loaded or answers, DoesNotFit and what loading raises:
        then the next request loads it as before.
        """
        offer = self._catalog.find(name)
        most = self._catalog.read_facts(offer).n_ctx_train
        if n_ctx and not min(MIN_CTX, most) <= n_ctx <= most:
            raise UsageError(
                f"the context of this model has {min(MIN_CTX, most):,} to {most:,} tokens"
            )
        self._require_idle(offer.name)
        before = self.contexts.get(offer.name, 0)
        self._note_context(offer.name, n_ctx)
        try:
            await self.pool.unload(offer.name)
            self._require_idle(offer.name)  # a request may have come meanwhile
            return await self.load(offer.name)
        except BaseException:
            self._note_context(offer.name, before)
            raise

    def _note_context(self, name: str, n_ctx: int) -> None:
        self.contexts.pop(name, None)
        if n_ctx:
            self.contexts[name] = n_ctx

    def _require_idle(self, name: str) -> None:
        model = self.pool.models.get(name)
        if self.pool.is_opening(name) or (model is not None and model.n_users):
            what = "answers" if model else "is being loaded"
            raise QueueFull(f"{name} {what}: change its context after that")

    async def preload(self, name: str) -> LoadedModel:
        """Return the model `name`, loaded. Raises what opening raises."""
        async with self._use_model(name) as model:
            return model

    async def close(self) -> None:
        """End all models and delete the media of requests."""
        await self.pool.close()
        self.media.close()

    @contextmanager
    def _hold_media(self, request: TurnRequest) -> Iterator[None]:
        """Keep the files of the images and sounds of a request for the block."""
        media = [medium for message in request.messages for medium in message.media]
        self.media.use(media)
        try:
            yield
        finally:
            self.media.release(media)

    @asynccontextmanager
    async def _use_model(
        self, name: str, keep_alive_s: float | None = None
    ) -> AsyncIterator[LoadedModel]:
        model = await self.pool.acquire(self._catalog.find(name).name, keep_alive_s)
        try:
            yield model
        finally:
            self.pool.release(model)

    @asynccontextmanager
    async def _use_without_slot(self, name: str) -> AsyncIterator[LoadedModel]:
        """Yield a model for what needs no slot, such as counting tokens. Raises QueueFull too."""
        async with self._use_model(name) as model:
            with model.engine.question_places.take():
                yield model

    def _count_reply(self, model: LoadedModel, reply: Reply) -> None:
        self.counters.add_reply(reply)
        self._on_reply(model.name, reply)

    def _describe_offer(self, offer: Offer) -> ServedModel:
        facts, model = self._catalog.read_facts(offer), self.pool.models.get(offer.name)
        left = self.pool.seconds_left(offer.name)
        return ServedModel(
            **vars(offer),
            **vars(facts),
            mmproj=self._catalog.find_encoder(offer),
            n_ctx=model.n_ctx if model else 0,
            n_slots=model.n_slots if model else 0,
            loaded_at=int(model.loaded_at) if model else 0,
            unload_at=int(time.time() + left) if left is not None else 0,
            memory_bytes=model.memory_bytes if model else 0,
            gpu_bytes=model.engine.loaded.gpu_bytes if model else 0,
        )

"""Answer several prompts at once with one loaded model, computed together as in `g4 serve`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from g4cli.chat import Conversation, Reply
from g4cli.core.errors import ContextFull, RuntimeFailed
from g4cli.core.reporter import Reporter
from g4cli.host import read_host
from g4cli.operations.chat.inputs import ChatInputs, read_inputs
from g4cli.operations.chat.plan import make_open_request, plan_chat, replace_gpus
from g4cli.operations.chat.request import ChatRequest
from g4cli.operations.chat.session import (
    choose_file_renderer,
    collect_sampled,
    draw_seed,
    find_media_options,
    make_style,
    make_turn,
)
from g4cli.operations.models import LoadableModel, prepare_model
from g4cli.prompt import Renderer
from g4cli.prompt.reply import SampledToken
from g4cli.runtime.engine.async_client import AsyncEngine
from g4cli.runtime.engine.client import EngineClient
from g4cli.runtime.engine.drafting import DraftChoice
from g4cli.runtime.engine.messages import Open, TurnDone
from g4cli.runtime.engine.options import Sampling, read_recommended_sampling

if TYPE_CHECKING:
    from g4cli.operations.chat.batch import KeepAnswer, SkipPrompt
    from g4cli.operations.prompts import Prompt

_NO_DRAFT: Final = DraftChoice("off", "not asked for")  # a batch has one token of each answer


@dataclass(frozen=True, slots=True)
class _ParallelSession:
    """A loaded model that answers prompts side by side. `load_s`: how long it took to load."""

    request: ChatRequest
    inputs: ChatInputs
    engine: AsyncEngine
    render: Renderer
    sampling: Sampling
    load_s: float

    async def answer(self, prompt: Prompt) -> tuple[Reply, list[SampledToken]]:
        """Return the answer to `prompt`, and its tokens if the request wants probabilities.

        Raises ContextFull, BadMedia, UsageError or RuntimeFailed.
        """
        request = self.request
        conversation = Conversation(prompt.system or request.system)
        conversation.ask(prompt.text, prompt.media)
        style = make_style(request.think, self.inputs, self.render)
        parts = await asyncio.to_thread(self.render, conversation.messages(), style)
        tokens = await self.engine.tokens_of(list(parts))
        turn = make_turn(request, self.inputs, request.think, draw_seed(self.sampling), tokens)
        sampled: list[SampledToken] = []
        async for event in self.engine.run_turn(turn):
            collect_sampled(event, sampled)
            if isinstance(event, TurnDone):
                return event.reply, sampled
        raise RuntimeFailed("the model's process gave no answer")


def answer_together(
    request: ChatRequest,
    prompts: Sequence[Prompt],
    n_parallel: int,
    reporter: Reporter,
    keep: KeepAnswer,
    skip: SkipPrompt,
) -> None:
    """Answer all `prompts`, `n_parallel` at once, unless Ctrl-C ends it before.

    `keep` is given each answer as soon as it is complete, `skip` each prompt that is too long.
    Raises what opening the model and answering raise, but ContextFull; answers that are complete by
    then are kept.
    """
    with suppress(KeyboardInterrupt):
        asyncio.run(_answer_all(request, prompts, n_parallel, reporter, keep, skip))


async def _answer_all(
    request: ChatRequest,
    prompts: Sequence[Prompt],
    n_parallel: int,
    reporter: Reporter,
    keep: KeepAnswer,
    skip: SkipPrompt,
) -> None:
    needs_encoder = any(prompt.media for prompt in prompts)
    waiting = iter(prompts)  # shared: each task takes the next prompt that no other has taken
    async with _open_session(request, n_parallel, reporter, needs_encoder=needs_encoder) as session:

        async def answer_next() -> None:
            for prompt in waiting:
                try:
                    reply, sampled = await session.answer(prompt)
                except ContextFull as err:
                    skip(prompt, err)
                    continue
                keep(prompt, reply, sampled, session.load_s, None)

        n_tasks = session.engine.request.context.n_parallel
        tasks = [asyncio.create_task(answer_next()) for _ in range(n_tasks)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _open_session(
    request: ChatRequest, n_parallel: int, reporter: Reporter, *, needs_encoder: bool
) -> AsyncIterator[_ParallelSession]:
    inputs = await asyncio.to_thread(read_inputs, request)
    model = await asyncio.to_thread(
        partial(prepare_model, request.model, reporter, expand=request.expand)
    )
    media = find_media_options(request, model.path) if needs_encoder else None
    opening = await asyncio.to_thread(_plan_loading, request, model, n_parallel, reporter)
    renderer = await asyncio.to_thread(choose_file_renderer, model, reporter)
    sampling = replace(read_recommended_sampling(model.header), **request.sampling)
    started = time.perf_counter()
    async with await AsyncEngine.start(opening, media) as engine:
        load_s = time.perf_counter() - started
        yield _ParallelSession(request, inputs, engine, renderer, sampling, load_s)


def _plan_loading(
    request: ChatRequest, model: LoadableModel, n_parallel: int, reporter: Reporter
) -> Open:
    """Return how to load the model. A worker is started to list the devices, and ended."""
    with EngineClient() as engine:
        host = replace_gpus(read_host(), engine.hello().devices)
    plan = plan_chat(request, model, host, reporter, n_parallel=n_parallel)
    return make_open_request(request, model, plan, _NO_DRAFT)

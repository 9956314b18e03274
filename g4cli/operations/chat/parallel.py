"""Answer several prompts at once with one loaded model, computed together as in `g4 serve`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from g4cli.chat import Conversation, Finished, Reply
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
from g4cli.prompt.reply import SampledToken
from g4cli.prompt.template import Renderer
from g4cli.runtime.engine.async_client import AsyncEngine
from g4cli.runtime.engine.client import EngineClient
from g4cli.runtime.engine.drafting import DraftChoice
from g4cli.runtime.engine.messages import Open
from g4cli.runtime.engine.options import MediaOptions, Sampling, choose_sampling

if TYPE_CHECKING:
    from g4cli.operations.chat.batch import KeepAnswer, SkipPrompt
    from g4cli.operations.prompts import Prompt

_NO_DRAFT: Final = DraftChoice("off", "not asked for")  # a batch has one token of each answer


@dataclass(frozen=True, slots=True)
class _ParallelSession:
    """How the prompts are rendered and answered, each in a conversation of its own."""

    request: ChatRequest
    inputs: ChatInputs
    render: Renderer
    sampling: Sampling

    async def answer(self, engine: AsyncEngine, prompt: Prompt) -> tuple[Reply, list[SampledToken]]:
        """Return the answer to `prompt`, and its tokens if the request wants probabilities.

        Raises ContextFull, BadMedia, UsageError or RuntimeFailed.
        """
        request = self.request
        conversation = Conversation(prompt.system or request.system)
        conversation.ask(prompt.text, prompt.media)
        style = make_style(request.think, self.inputs, self.render)
        parts = await asyncio.to_thread(self.render, conversation.messages(), style)
        tokens = await engine.tokens_of(list(parts))
        turn = make_turn(request, self.inputs, request.think, draw_seed(self.sampling), tokens)
        sampled: list[SampledToken] = []
        async for event in engine.run_turn(turn):
            collect_sampled(event, sampled)
            if isinstance(event, Finished):
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
        inputs = read_inputs(request)
        model = prepare_model(request.model, reporter, expand=request.expand)
        needs_encoder = any(prompt.media for prompt in prompts)
        media = find_media_options(request, model.path) if needs_encoder else None
        opening = _plan_loading(request, model, n_parallel, reporter)
        sampling = choose_sampling(model.header, **request.sampling)
        session = _ParallelSession(request, inputs, choose_file_renderer(model, reporter), sampling)
        asyncio.run(_answer_all(session, prompts, opening, media, keep, skip))


async def _answer_all(
    session: _ParallelSession,
    prompts: Sequence[Prompt],
    opening: Open,
    media: MediaOptions | None,
    keep: KeepAnswer,
    skip: SkipPrompt,
) -> None:
    waiting = iter(prompts)  # shared: each task takes the next prompt that no other has taken
    started = time.perf_counter()
    async with await AsyncEngine.start(opening, media) as engine:
        load_s = time.perf_counter() - started

        async def answer_next() -> None:
            for prompt in waiting:
                try:
                    reply, sampled = await session.answer(engine, prompt)
                except ContextFull as err:
                    skip(prompt, err)
                    continue
                keep(prompt, reply, sampled, load_s, None)

        tasks = [asyncio.create_task(answer_next()) for _ in range(opening.context.n_parallel)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _plan_loading(
    request: ChatRequest, model: LoadableModel, n_parallel: int, reporter: Reporter
) -> Open:
    """Return how to load the model. A worker is started to list the devices, and ended."""
    with EngineClient() as engine:
        host = replace_gpus(read_host(), engine.hello().devices)
    plan = plan_chat(request, model, host, reporter, n_parallel=n_parallel)
    return make_open_request(request, model, plan, _NO_DRAFT)

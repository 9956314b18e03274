"""A full queue refuses a request before any work is done for it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from g4cli.chat import TurnOptions
from g4cli.core.errors import QueueFull
from g4cli.operations.serving.catalog import Offer
from g4cli.operations.serving.loaded import LoadedModel
from g4cli.operations.serving.pool import ModelPool
from g4cli.operations.serving.requests import TurnRequest
from g4cli.operations.serving.service import Service
from g4cli.prompt.render import render
from g4cli.prompt.template import Renderer
from g4cli.runtime.engine.async_client import Places
from g4cli.runtime.engine.options import Sampling
from g4cli.server.app import make_api
from tests.support.fakes.scripted_engine import ScriptedEngine


class FullEngine:
    """An engine without a free place; it counts what it is asked to do."""

    def __init__(self) -> None:
        self.turn_places, self.question_places = Places(0), Places(0)
        self.n_asked = 0

    async def tokens_of(self, *_: Any, **__: Any) -> tuple[int, ...]:
        """Count the work."""
        self.n_asked += 1
        return (2,)

    async def close(self) -> None:
        """Do nothing."""


class OneModel:
    """A catalog of one model."""

    def find(self, _name: str) -> Offer:
        """Return the model."""
        return Offer("m", (), None)  # type: ignore[arg-type]


def test_nothing_is_tokenized_for_a_request_that_is_refused() -> None:
    async def main() -> None:
        engine, fakes = FullEngine(), (None, None, None)

        async def open_model(name: str, _others: Any) -> LoadedModel:
            return LoadedModel(name, engine, *fakes)  # type: ignore[arg-type]

        catalog: Any = OneModel()
        service = Service(catalog, ModelPool(open_model))
        request = TurnRequest(prompt="a long text")
        with pytest.raises(QueueFull):
            async with service.start_turn(request):
                pass
        with pytest.raises(QueueFull):
            await service.count_tokens(request)
        with pytest.raises(QueueFull):
            await service.tokenize("m", "a long text", control=False, with_bos=False)
        assert engine.n_asked == 0
        await service.close()

    asyncio.run(main())


@pytest.mark.slow
def test_a_stream_of_several_prompts_holds_one_place_at_a_time() -> None:
    async def main() -> str:
        engine: Any = ScriptedEngine(lambda prompt: [prompt])
        engine.turn_places = Places(1)

        async def open_model(name: str, _others: Any) -> LoadedModel:
            renderer = Renderer(render, empty_thought=False)
            return LoadedModel(name, engine, renderer, Sampling(), TurnOptions())

        catalog: Any = OneModel()
        service = Service(catalog, ModelPool(open_model))
        api = httpx.ASGITransport(make_api(service))
        async with httpx.AsyncClient(transport=api, base_url="http://localhost") as client:
            body = {"prompt": ["One", "Two", "Three"], "stream": True}
            answer = await client.post("/v1/completions", json=body)
        assert engine.turn_places.n_taken == 0
        await service.close()
        return answer.text

    *events, last = asyncio.run(main()).strip().split("\n\n")
    assert last == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    texts = [chunk["choices"][0]["text"] for chunk in chunks]
    assert texts == ["One", "", "Two", "", "Three", ""]

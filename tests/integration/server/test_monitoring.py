"""/metrics, /slots, /props and /openapi.json of a server with `tiny`."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from openai import OpenAI

from g4cli.fit.parallel import MAX_AUTO_PARALLEL
from g4cli.operations.serving.loaded import LoadedModel
from tests.support.run.server import RunningServer


def read_metrics(server: RunningServer) -> dict[str, float]:
    text = httpx.get(f"{server.url}/metrics", timeout=60).text
    assert re.fullmatch(r"(# HELP .+\n# TYPE \S+ (counter|gauge)\n\S+ [0-9.e+-]+\n)+", text)
    rows = (line.split(" ") for line in text.splitlines() if line[0] != "#")
    return {name: float(value) for name, value in rows}


def test_metrics_count_what_was_answered(server: RunningServer, openai: OpenAI) -> None:
    before = read_metrics(server)
    done = openai.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "Count me."}], max_tokens=5
    )
    after = read_metrics(server)
    assert done.usage
    grown = {name: after[name] - before[name] for name in after}
    assert grown["llamacpp:tokens_predicted_total"] == 5
    assert grown["g4:answers_total"] == 1
    seen = grown["llamacpp:prompt_tokens_total"] + grown["llamacpp:prompt_tokens_cached_total"]
    assert seen == done.usage.prompt_tokens
    assert after["llamacpp:requests_processing"] == after["llamacpp:requests_deferred"] == 0
    assert after["g4:models_loaded"] == 1


def test_props_and_slots(server: RunningServer) -> None:
    props = httpx.get(f"{server.url}/props", timeout=60).json()
    assert props["model_alias"] == "tiny"
    assert props["default_generation_settings"]["n_ctx"] == 1024
    assert props["default_generation_settings"]["params"]["temperature"] == 0
    assert "<|turn>" in props["chat_template"]
    slots = httpx.get(f"{server.url}/slots", timeout=60).json()
    assert len(slots) == props["total_slots"] == MAX_AUTO_PARALLEL
    assert not any(slot["is_processing"] for slot in slots)
    assert httpx.get(f"{server.url}/props?model=large", timeout=60).status_code == 404


def test_a_server_that_loads_a_model_for_its_properties_is_healthy(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, seen = server.service.pool, []
    acquire = pool.acquire

    async def watch_loading(name: str, keep_alive_s: float | None) -> LoadedModel:
        seen.append(server.service.is_loading)
        return await acquire(name, keep_alive_s)

    monkeypatch.setattr(pool, "acquire", watch_loading)
    assert httpx.get(f"{server.url}/props").status_code == 200
    assert seen == [False]


def test_the_description_of_the_api_is_whole(server: RunningServer) -> None:
    api = httpx.get(f"{server.url}/openapi.json", timeout=60).json()
    body = api["components"]["schemas"]["ChatBody"]
    assert body["additionalProperties"] is False
    assert {"messages", "stop", "tools"} <= body["properties"].keys()
    streamed = {
        path
        for path, operations in api["paths"].items()
        if "post" in operations and len(operations["post"]["responses"]["200"]["content"]) > 1
    }
    assert streamed == {
        "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/completion",
        "/api/chat", "/api/generate", "/v1/audio/transcriptions",
    }  # fmt: skip
    for page in ("/docs", "/redoc"):
        assert httpx.get(f"{server.url}{page}", timeout=60).status_code == 404, (
            "it would load foreign scripts"
        )


def test_several_requests_are_answered_at_once_as_one_alone(openai: OpenAI) -> None:
    questions = ["What is Q4_0?", "What is GGUF?", "What is the KV cache?", "Who are you?"] * 2

    def ask(question: str) -> str | None:
        done = openai.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": question}], max_tokens=30
        )
        return done.choices[0].message.content

    alone = [ask(question) for question in questions]
    with ThreadPoolExecutor(len(questions)) as pool:
        together = list(pool.map(ask, questions))
    # Kernels differ in the last bits by the size of a batch: a near tie may go the other way.
    same = sum(a == b for a, b in zip(alone, together, strict=True))
    assert same >= len(questions) - 2

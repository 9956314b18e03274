"""Ollama's API as Ollama's own client sees it, with the model `tiny`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import ollama
import pytest

from tests.support.run.server import RunningServer, wait_until

ASK: Any = [{"role": "user", "content": "What is Q4_0?"}]
SHORT: Any = {"num_predict": 16}


@pytest.fixture
def client(server: RunningServer) -> Iterator[ollama.Client]:
    """Return Ollama's own client of the server."""
    with ollama.Client(server.url) as client:
        yield client


def test_models_are_listed(client: ollama.Client, server: RunningServer) -> None:
    (model,) = client.list().models
    assert model.model == "tiny"
    assert model.details.family == "gemma4"
    shown = client.show("tiny:latest")
    assert shown.capabilities == ["completion", "tools", "thinking"]
    assert shown.modelinfo["general.architecture"] == "gemma4"
    version = httpx.get(f"{server.url}/api/version", timeout=60).json()["version"]
    assert [int(number) for number in version.split(".")] >= [0, 6, 4]


@pytest.mark.slow
def test_a_chat_whole_and_streamed(client: ollama.Client) -> None:
    whole = client.chat("tiny", ASK, options=SHORT)
    assert (whole.done, whole.message.role) == (True, "assistant")
    assert whole.message.content
    assert 0 < whole.eval_count <= 16
    pieces = list(client.chat("tiny:latest", ASK, options=SHORT, stream=True))
    assert "".join(piece.message.content for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].eval_count == whole.eval_count
    (running,) = client.ps().models
    assert (running.model, running.context_length) == ("tiny", 1024)
    assert running.size > 0


@pytest.mark.slow
def test_a_completion_whole_and_streamed(client: ollama.Client) -> None:
    whole = client.generate("tiny", "What is Q4_0?", options=SHORT)
    assert whole.response == client.chat("tiny", ASK, options=SHORT).message.content
    pieces = client.generate("tiny", "What is Q4_0?", options=SHORT, stream=True)
    assert "".join(piece.response for piece in pieces) == whole.response
    raw = client.generate("tiny", "<bos>Once", raw=True, options=SHORT)
    assert raw.prompt_eval_count < whole.prompt_eval_count


@pytest.mark.slow
def test_options_stop_and_probabilities(client: ollama.Client) -> None:
    text = client.chat("tiny", ASK, options=SHORT).message.content
    stopped = client.chat("tiny", ASK, options={**SHORT, "stop": [text[4:7]]})
    assert stopped.message.content == text[: text.index(text[4:7])]
    one = client.chat("tiny", ASK, options={"num_predict": 1})
    assert (one.eval_count, one.done_reason) == (1, "length")
    told = client.chat("tiny", ASK, options={"num_predict": 2}, logprobs=True, top_logprobs=3)
    assert [len(token.top_logprobs) for token in told.logprobs] == [3, 3]


def test_formats(client: ollama.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": [7]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    answer = client.chat("tiny", ASK, format=schema, options={"num_predict": 64})
    assert json.loads(answer.message.content) == {"a": 7}


@pytest.mark.slow
def test_tools(client: ollama.Client) -> None:
    def get_weather(city: str) -> str:
        """Return the weather.

        Args:
            city: where
        """
        return city

    answer = client.chat("tiny", ASK, tools=[get_weather], options=SHORT)
    history = [
        *ASK,
        {
            "role": "assistant",
            "tool_calls": [{"function": {"name": "get_weather", "arguments": {}}}],
        },
        {"role": "tool", "tool_name": "get_weather", "content": "sunny"},
    ]
    assert answer.done
    assert client.chat("tiny", history, tools=[get_weather], options=SHORT).done


def test_thinking(client: ollama.Client) -> None:
    assert client.chat("tiny", ASK, think=True, options=SHORT).done


def test_a_model_is_loaded_and_unloaded(client: ollama.Client) -> None:
    assert client.generate("tiny").done_reason == "load"
    assert client.ps().models
    assert client.generate("tiny", keep_alive=0).done_reason == "unload"
    wait_until(lambda: not client.ps().models)
    assert client.chat("tiny", [], keep_alive="10m").done_reason == "load"
    assert client.ps().models


def test_what_ollamas_own_program_sends_and_reads(server: RunningServer) -> None:
    # api/types.go ShowRequest has no omitempty, and cmd.go asks for a thought where it only loads.
    empty: Any = {"system": "", "template": "", "verbose": False, "options": None}
    post = partial(httpx.post, timeout=60)
    shown = post(f"{server.url}/api/show", json={"model": "tiny", "name": "", **empty})
    assert "thinking" in shown.json()["capabilities"]
    ask = {"prompt": "", "suffix": "", "system": "", "template": "", "options": None}
    loaded = post(
        f"{server.url}/api/generate",
        json={"model": "tiny", **ask, "think": True, "stream": False, "keep_alive": "5m0s"},
    )
    assert loaded.json()["done_reason"] == "load"
    for path, name in (("tags", "modified_at"), ("ps", "expires_at")):
        (model,) = httpx.get(f"{server.url}/api/{path}", timeout=60).json()["models"]
        assert model[name]
        assert model["digest"][11]  # cmd.go shows the first twelve characters


@pytest.mark.slow
def test_a_request_to_load_obeys_or_refuses_its_options(client: ollama.Client) -> None:
    assert client.generate("tiny", options={"num_ctx": 1024}).done_reason == "load"
    assert client.chat("tiny", [], think=False, stream=False).done_reason == "load"
    with pytest.raises(ollama.ResponseError, match=r"options\.num_ctx: a request has 1,024"):
        client.generate("tiny", options={"num_ctx": 4096})
    with pytest.raises(ollama.ResponseError, match=r"options\.temperature: there is no prompt"):
        client.chat("tiny", [], options={"temperature": 1})
    with pytest.raises(ollama.ResponseError, match="system: there is no prompt"):
        client.generate("tiny", system="Be brief.", keep_alive=0)


@pytest.mark.slow
def test_what_cannot_be_obeyed_is_refused(client: ollama.Client) -> None:
    for options, message in (
        ({"num_gpu": 1}, "options.num_gpu: this field is unknown to g4"),
        ({"num_ctx": 4096}, "options.num_ctx: a request has 1,024 tokens"),
        ({"mirostat": 1}, "options.mirostat"),
    ):
        for stream in (False, True):
            with pytest.raises(ollama.ResponseError, match=message) as raised:
                list(client.chat("tiny", ASK, options=options, stream=stream))
            assert raised.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="no model is called 'llama3'") as raised:
        client.chat("llama3", ASK)
    assert raised.value.status_code == 404
    image = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    with pytest.raises(ollama.ResponseError, match="no encoder of images"):
        client.chat("tiny", [{**ASK[0], "images": [image]}])

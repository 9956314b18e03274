"""What a server says about its models, over HTTP."""

from __future__ import annotations

import httpx
import pytest
from openai import NotFoundError, OpenAI

from tests.support.run.server import RunningServer


@pytest.mark.slow
def test_a_client_lists_models_and_asks_for_one(openai: OpenAI) -> None:
    (model,) = openai.models.list().data
    assert (model.id, model.owned_by) == ("tiny", "g4")
    assert openai.models.retrieve("small").id == "tiny"
    assert openai.models.retrieve("tiny:latest").id == "tiny"
    with pytest.raises(NotFoundError, match="no model is called 'large'; on offer: tiny"):
        openai.models.retrieve("large")


def test_no_path_is_read_from_a_request(server: RunningServer) -> None:
    for path in ("/etc/passwd", "tiny.gguf", "%2Fetc%2Fpasswd", "%2e%2e%2ftiny.gguf"):
        answer = httpx.get(f"{server.url}/v1/models/{path}", timeout=60)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"


def test_facts_of_a_model(server: RunningServer) -> None:
    answers = [httpx.get(f"{server.url}{path}").json() for path in ("/models", "/v1/models/")]
    assert answers[0] == answers[1]
    data = answers[0]["data"][0]
    assert data["meta"]["n_ctx_train"] == 2048
    assert data["meta"]["size"] > 1_000_000
    assert data["architecture"]["input_modalities"] == ["text"]


def test_health_and_unknown_paths(server: RunningServer) -> None:
    assert httpx.get(f"{server.url}/health", timeout=60).json() == {"status": "ok"}
    assert httpx.get(f"{server.url}/v1/health", timeout=60).status_code == 200
    missing = httpx.get(f"{server.url}/v1/nothing", timeout=60)
    assert missing.status_code == 404
    assert missing.json()["error"]["message"] == "Not Found"
    assert httpx.post(f"{server.url}/v1/models", timeout=60).status_code == 405


@pytest.mark.slow
def test_head_is_answered_as_get_without_its_body(server: RunningServer) -> None:
    for path in ("/", "/health", "/v1/models", "/api/version"):
        answer = httpx.head(server.url + path)
        assert (answer.status_code, answer.content) == (200, b""), path
    assert httpx.head(f"{server.url}/nothing").status_code == 404

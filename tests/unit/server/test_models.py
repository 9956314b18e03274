"""What a server says about its models, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from openai import NotFoundError, OpenAI

from tests.support.builders.tiny_file import build_tiny
from tests.support.run.server import RunningServer, run_server, tiny_options

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    path.write_bytes(build_tiny())
    with run_server(tiny_options(path, aliases=("small",))) as running:
        yield running


def test_a_client_lists_models_and_asks_for_one(server: RunningServer) -> None:
    client = OpenAI(base_url=server.openai_url, api_key="none")
    (model,) = client.models.list().data
    assert (model.id, model.owned_by) == ("tiny", "g4")
    assert client.models.retrieve("small").id == "tiny"
    assert client.models.retrieve("tiny:latest").id == "tiny"
    with pytest.raises(NotFoundError, match="no model is called 'large'; on offer: tiny"):
        client.models.retrieve("large")


def test_no_path_is_read_from_a_request(server: RunningServer) -> None:
    for path in ("/etc/passwd", "tiny.gguf", "%2Fetc%2Fpasswd", "%2e%2e%2ftiny.gguf"):
        answer = httpx.get(f"{server.url}/v1/models/{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"


def test_facts_of_a_model(server: RunningServer) -> None:
    data = httpx.get(f"{server.url}/models").json()["data"][0]
    assert data["meta"]["n_ctx_train"] == 2048
    assert data["meta"]["size"] > 1_000_000
    assert data["architecture"]["input_modalities"] == ["text"]


def test_health_and_unknown_paths(server: RunningServer) -> None:
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
    assert httpx.get(f"{server.url}/v1/health").status_code == 200
    missing = httpx.get(f"{server.url}/v1/nothing")
    assert missing.status_code == 404
    assert missing.json()["error"]["message"] == "Not Found"
    assert httpx.post(f"{server.url}/v1/models").status_code == 405

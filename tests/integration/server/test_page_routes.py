"""The routes of the page over HTTP: its files, who may use it, answers that can be resumed."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from g4cli.core.paths import state_dir
from g4cli.host import read_host
from g4cli.operations.serving import opening
from g4cli.server.guard import GuardOptions
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.scripted_engine import make_scripted_service
from tests.support.run.server import (
    RunningServer,
    run_server,
    run_service,
    tiny_options,
    wait_until,
)

PAGE = Path(__file__).parents[3] / "g4cli" / "server" / "page"


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    path.write_bytes(build_tiny())
    return path


@pytest.fixture
def server(tiny_path: Path) -> Iterator[RunningServer]:
    def script(prompt: str) -> list[str | float]:
        if "slowly" in prompt:
            return [part for n in range(1000) for part in (f"{n} ", 0.02)]
        return ["one **two**\n\n", "three"]

    with run_service(make_scripted_service(tiny_path, script)) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as found:
        found.headers["x-g4-token"] = found.get("/page/api/start").json()["token"]
        yield found


def ask(client: httpx.Client, text: str) -> tuple[int, int]:
    """Return the ids of a new conversation and of the answer that was begun in it."""
    chat = client.post("/page/api/conversations", json={}).json()["id"]
    body = {"parent": None, "text": text}
    answer = client.post(f"/page/api/conversations/{chat}/questions", json=body)
    return chat, answer.json()["answer"]


def read_events(client: httpx.Client, answer: int, after: str = "0.0", most: int = 10**6) -> Any:
    """Return (id, event) of an answer's events."""
    found = []
    with client.stream("GET", f"/page/api/answers/{answer}?after={after}") as response:
        assert response.status_code == 200
        number = ""
        for line in response.iter_lines():
            if line.startswith("id: "):
                number = line[4:]
            elif line.startswith("data: "):
                found.append((number, json.loads(line[6:])))
                if len(found) == most:
                    break
    return found


@pytest.mark.slow
def test_the_page_allows_nothing_foreign(server: RunningServer) -> None:
    answer = httpx.get(server.url, timeout=60)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    styles = re.findall(r"<style>(.*?)</style>", answer.text, re.S)
    digests = [base64.b64encode(sha256(style.encode()).digest()).decode() for style in styles]
    assert re.search("style-src ([^;]*);", policy)[1] == " ".join(  # type: ignore[index]
        f"'sha256-{digest}'" for digest in digests
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "needs JavaScript" in re.search(r"<noscript>.*?</noscript>", answer.text, re.S)[0]  # type: ignore[index]
    again = httpx.get(server.url, headers={"if-none-match": answer.headers["etag"]}, timeout=60)
    assert again.status_code == 304
    assert httpx.get(f"{server.url}/page/../app.py", timeout=60).status_code == 404
    assert httpx.get(f"{server.url}/page/%2e%2e%2fapp.py", timeout=60).status_code == 404


@pytest.mark.slow
def test_the_page_is_small_and_loads_only_its_own_files(server: RunningServer) -> None:
    files = [path for path in PAGE.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 150_000
    page = httpx.get(server.url, timeout=60).text
    for path in files:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".css":
            assert f"<style>{text}</style>" in page
        else:
            assert httpx.get(f"{server.url}/page/{path.name}", timeout=60).status_code == 200
        if path.suffix == ".js":
            assert text.count("\n") <= 300, path.name
        foreign = re.findall(r"""(?:src|href|from|import|url\()\s*=?\s*["'(]?(https?:|//)""", text)
        assert not foreign, path.name
        if path.name != "dom.js":
            assert "innerHTML" not in text


@pytest.mark.slow
def test_changes_need_the_token_of_the_page(server: RunningServer, client: httpx.Client) -> None:
    path = f"{server.url}/page/api/conversations"
    for headers in ({}, {"x-g4-token": "wrong"}):
        refused = httpx.post(path, json={}, headers=headers, timeout=60)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "page-token")
    assert client.post("/page/api/conversations", json={}).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("origins", [(), ("https://friend.example",), ("*",)])
def test_no_other_page_reads_conversations(tiny_path: Path, origins: tuple[str, ...]) -> None:
    service = make_scripted_service(tiny_path, lambda _: ["x"])
    with run_service(service, GuardOptions(origins=origins)) as running:
        for path in ("start", "conversations", "models"):
            headers = {"Origin": "http://[x" if path == "start" else "https://friend.example"}
            answer = httpx.get(f"{running.url}/page/api/{path}", headers=headers, timeout=60)
            assert answer.status_code == 403
        cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        assert (
            httpx.get(f"{running.url}/page/api/start", headers=cross, timeout=60).status_code == 403
        )
        same = {"Sec-Fetch-Site": "same-origin", "Origin": running.url}
        assert (
            httpx.get(f"{running.url}/page/api/start", headers=same, timeout=60).status_code == 200
        )


@pytest.mark.slow
def test_a_key_protects_all_but_the_files(tiny_path: Path) -> None:
    service = make_scripted_service(tiny_path, lambda _: ["x"])
    with run_service(service, GuardOptions(keys=("secret",))) as running:
        assert httpx.get(running.url, timeout=60).status_code == 200
        assert httpx.get(f"{running.url}/page/main.js", timeout=60).status_code == 200
        for path in ("start", "conversations", "models", "conversations/1", "answers/1"):
            assert httpx.get(f"{running.url}/page/api/{path}", timeout=60).status_code == 401
        key = {"Authorization": "Bearer secret"}
        assert (
            httpx.get(f"{running.url}/page/api/start", headers=key, timeout=60).status_code == 200
        )


@pytest.mark.slow
def test_an_answer_is_resumed_where_the_page_left_it(client: httpx.Client) -> None:
    _, answer = ask(client, "Count slowly")
    seen, _ = read_events(client, answer, most=3)[-1]
    assert re.fullmatch(r"0\.\d+", seen)
    assert client.post(f"/page/api/answers/{answer}/stop", json={}).json() == {"stopped": True}
    assert client.get(f"/page/api/answers/{answer}").status_code == 404


def test_an_answer_is_written_without_a_page(client: httpx.Client) -> None:
    chat, _ = ask(client, "Hi")

    def read_answer() -> Any:
        return client.get(f"/page/api/conversations/{chat}").json()["turns"][1]

    wait_until(lambda: not read_answer()["running"])
    turn = read_answer()
    assert turn["text"] == "one **two**\n\nthree"
    assert [block["html"] for block in turn["blocks"]] == [
        "<p>one <strong>two</strong></p>\n",
        "<p>three</p>\n",
    ]
    assert turn["figures"]["completion_tokens"] == 2
    assert turn["finish"] == "stop"


@pytest.mark.slow
def test_the_last_event_has_the_whole_answer(client: httpx.Client) -> None:
    _, answer = ask(client, "slowly")
    client.post(f"/page/api/answers/{answer}/stop", json={})
    chat, answer = ask(client, "Hi")
    try:
        events = read_events(client, answer)
    except AssertionError:  # it had ended already
        return
    assert events[-1][1]["end"]["text"] == "one **two**\n\nthree"
    assert chat


@pytest.mark.slow
def test_unknown_things_are_not_found(client: httpx.Client) -> None:
    body = {"parent": None, "text": "x"}
    for path in ("conversations/99", "conversations/99/turns/1/media/0", "answers/5"):
        assert client.get(f"/page/api/{path}").status_code == 404
    assert client.post("/page/api/conversations/99/questions", json=body).status_code == 404
    chat = client.post("/page/api/conversations", json={}).json()["id"]
    path = f"/page/api/conversations/{chat}/questions"
    assert client.post(path, json=body | {"parent": 77}).status_code == 404
    assert client.post(path, json=body | {"model": "nobody"}).status_code == 404
    assert client.post(path, json=body | {"wrong": 1}).status_code == 400
    for wrong in (f"conversations/{1 << 63}", "conversations/-1"):
        assert client.get(f"/page/api/{wrong}").status_code == 400
    assert client.post(path, json=body | {"parent": 1 << 63}).status_code == 400
    media = [{"kind": "image", "name": "../../etc/passwd"}]
    assert client.post(path, json=body | {"media": media}).status_code == 404


@pytest.mark.slow
def test_a_private_page_keeps_nothing(tiny_path: Path) -> None:
    service = make_scripted_service(tiny_path, lambda _: ["x"])
    with (
        run_service(service, private=True) as running,
        httpx.Client(base_url=running.url, timeout=60) as client,
    ):
        start = client.get("/page/api/start").json()
        assert start["private"]
        client.headers["x-g4-token"] = start["token"]
        ask(client, "Hi")
        assert client.get("/page/api/conversations").json()["conversations"]
        assert not state_dir().exists()


@pytest.mark.slow
def test_a_deleted_turn_takes_what_follows_and_the_last_one_the_conversation(
    client: httpx.Client,
) -> None:
    chat, answer = ask(client, "Count slowly")
    path = f"/page/api/conversations/{chat}"
    first = client.get(path).json()["turns"][0]["id"]
    again = client.post(f"{path}/questions", json={"parent": None, "text": "Hi"})
    assert client.delete(f"{path}/turns/{first}").json() == {"left": True}
    wait_until(lambda: client.get(f"/page/api/answers/{answer}").status_code == 404)
    other = again.json()["answer"]
    wait_until(lambda: client.get(f"/page/api/answers/{other}").status_code == 404)
    turns = client.get(path).json()["turns"]
    assert [turn["text"] for turn in turns] == ["Hi", "one **two**\n\nthree"]
    assert turns[0]["siblings"] == [turns[0]["id"]]
    assert client.delete(f"{path}/turns/{other}").json() == {"left": True}
    assert client.delete(f"{path}/turns/{turns[0]['id']}").json() == {"left": False}
    assert client.get(path).status_code == 404
    assert client.delete(f"{path}/turns/{other}").status_code == 404


@pytest.mark.slow
def test_the_context_of_a_model_is_changed_by_loading_it_again(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_server(tiny_options(tiny_path)) as server, httpx.Client(
        base_url=f"{server.url}/page/api", timeout=60
    ) as client:  # fmt: skip
        client.headers["x-g4-token"] = client.get("start").json()["token"]

        def change(n_ctx: int) -> httpx.Response:
            return client.post("models/context", json={"name": "tiny", "n_ctx": n_ctx})

        def read() -> tuple[int, int]:
            (model,) = client.get("models").json()["models"]
            return model["n_ctx"], model["n_ctx_chosen"]

        assert change(512).json() == {"n_ctx": 512}
        assert read() == (512, 512)
        refused = change(4096)
        assert (refused.status_code, read()) == (400, (512, 512))
        assert "256 to 2,048 tokens" in refused.json()["error"]["message"]
        with monkeypatch.context() as patch:
            patch.setattr(opening, "read_host", lambda: replace(read_host(), available_bytes=1))
            refused = change(2048)
        assert (refused.status_code, read()) == (503, (0, 512))
        assert "does not fit into memory" in refused.json()["error"]["message"]
        assert change(0).json() == {"n_ctx": 1024}
        assert read() == (1024, 0)


@pytest.mark.slow
def test_the_context_of_a_model_that_answers_stays(tiny_path: Path) -> None:
    service = make_scripted_service(tiny_path, lambda _: ["x", 60.0])
    with run_service(service) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        client.headers["x-g4-token"] = client.get("/page/api/start").json()["token"]
        _, answer = ask(client, "Hi")
        read_events(client, answer, most=1)
        body = {"name": "scripted", "n_ctx": 512}
        refused = client.post("/page/api/models/context", json=body)
        assert refused.status_code == 503
        assert "answers: change its context" in refused.json()["error"]["message"]

"""The guard of the server: strangers' pages, wrong keys, slow and large bodies."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from g4cli.server.guard import Guard, GuardOptions, Served


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(body or b"hello")(scope, receive, send)


def ask(options: GuardOptions, method: str = "GET", path: str = "/v1/models", **call: Any) -> Any:
    """Return the response of a server that echoes, behind a guard."""

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(Guard(echo, options))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as c:
            return await c.request(method, path, **call)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8080", "localhost", "[::1]:8080", "10.0.0.7", "a.localhost:1", "LOCALHOST.:80"],
)
def test_addresses_and_names_of_this_machine_are_hosts(host: str) -> None:
    assert ask(GuardOptions(), headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "user@127.0.0.1",
        "127.0.0.1/x",
        "127.0.0.1:port",
        "localhost#evil.example",
        "localhost?",
        "local\thost",
        "[localhost]",
        "[::1",
    ],
)
def test_the_name_of_a_stranger_is_refused(host: str) -> None:
    answer = ask(GuardOptions(), headers={"Host": host})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "host"


def test_a_name_that_was_given_is_a_host() -> None:
    options = GuardOptions(hosts=("models.example",))
    assert ask(options, headers={"Host": "Models.Example:8080"}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:3000", "http://[x"]
)
def test_pages_of_strangers_may_not_use_the_server(origin: str) -> None:
    answer = ask(GuardOptions(), headers={"Origin": origin})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "origin"
    assert "access-control-allow-origin" not in answer.headers
    preflight = ask(GuardOptions(), "OPTIONS", headers={"Origin": origin})
    assert preflight.status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "none"])
def test_what_another_page_embeds_is_refused(site: str) -> None:
    # Of the same site are http://127.0.0.1:3000, and at a public name the names beside it.
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
    is_own = site in ("same-origin", "none")
    assert ask(GuardOptions(), headers=headers).status_code == (200 if is_own else 403)
    headers["Sec-Fetch-Mode"] = "navigate"
    assert ask(GuardOptions(), headers=headers).status_code == 200
    given = headers | {"Sec-Fetch-Mode": "cors", "Origin": "http://127.0.0.1:3000"}
    options = GuardOptions(origins=("http://127.0.0.1:3000",))
    assert ask(options, headers=given).status_code == 200


def test_pages_of_the_server_and_of_given_origins_may() -> None:
    options = GuardOptions(origins=("https://ui.example",))
    own = ask(options, headers={"Origin": "http://127.0.0.1:8080"})
    assert own.status_code == 200
    page = {"Origin": "https://ui.example", "Access-Control-Request-Headers": "authorization"}
    answer = ask(options, headers=page)
    assert answer.headers["access-control-allow-origin"] == "https://ui.example"
    preflight = ask(options, "OPTIONS", headers=page)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    assert ask(GuardOptions(origins=("*",)), headers={"Origin": "null"}).status_code == 200


def test_one_of_the_keys_is_needed_except_for_health() -> None:
    options = GuardOptions(keys=("one", "two"))
    assert ask(options).status_code == 401
    assert ask(options).headers["www-authenticate"] == "Bearer"
    for headers in (
        {"Authorization": "Bearer one"},
        {"authorization": "bearer two"},
        {"x-api-key": "two"},
    ):
        assert ask(options, headers=headers).status_code == 200
    for headers in (
        {"Authorization": "Bearer on"},
        {"Authorization": "Bearer onetwo"},
        {"Authorization": "Basic one"},
        {"x-api-key": ""},
    ):
        assert ask(options, headers=headers).status_code == 401
    assert ask(options, path="/health").status_code == 200


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("key", ["\u00e9", "voil\u00e0"])
def test_a_key_beyond_ascii_may_come_in_either_encoding(key: str, encoding: str) -> None:
    # The last byte of "\u00e0" in UTF-8 is a blank in Latin-1.
    options = GuardOptions(keys=(key,))
    for name, value in ((b"authorization", f"Bearer {key}"), (b"x-api-key", key)):
        assert ask(options, headers={name: value.encode(encoding)}).status_code == 200
        assert ask(options, headers={name: f"{value}x".encode(encoding)}).status_code == 401


def test_errors_have_the_form_of_their_api() -> None:
    options = GuardOptions(keys=("one",))
    assert ask(options).json()["error"]["type"] == "authentication_error"
    assert ask(options, path="/v1/messages").json()["type"] == "error"
    assert isinstance(ask(options, path="/api/tags").json()["error"], str)


def test_a_body_that_is_too_large_is_refused_announced_or_not() -> None:
    options = GuardOptions(max_body_bytes=10)
    assert ask(options, "POST", content=b"x" * 10).text == "x" * 10
    assert ask(options, "POST", content=b"x" * 11).status_code == 413

    async def pieces() -> Any:
        for _ in range(11):
            yield b"x"

    assert ask(options, "POST", content=pieces()).status_code == 413
    announced = {"Content-Length": "9" * 5000}  # more digits than Python reads
    assert ask(options, "POST", headers=announced).status_code == 413


def call_guard(guard: Guard, messages: list[Any]) -> list[Any]:
    """Return what `guard` sends while a client sends `messages`, then nothing more."""
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "POST", "path": "/x", "headers": headers, "client": None}
    asyncio.run(guard(scope, receive, send))
    return sent


def test_a_client_that_does_not_send_its_body_is_told_so() -> None:
    guard = Guard(echo, GuardOptions(body_timeout_s=0.05))
    begun = {"type": "http.request", "body": b"x", "more_body": True}
    sent = call_guard(guard, [begun])
    assert sent[0]["status"] == 408


@pytest.mark.slow
def test_a_client_that_sends_its_body_byte_by_byte_is_told_so() -> None:
    guard = Guard(echo, GuardOptions(body_timeout_s=0.2, min_body_rate=1000))
    sent: list[Any] = []
    n_bytes = 0

    async def receive() -> Any:
        nonlocal n_bytes
        n_bytes += 1
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": n_bytes < 2000}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "POST", "path": "/x", "headers": headers, "client": None}
    asyncio.run(asyncio.wait_for(guard(scope, receive, send), 20))
    assert (sent[0]["status"], n_bytes < 100) == (408, True)


def test_a_client_that_goes_away_while_it_sends_costs_nothing() -> None:
    log: list[Served] = []
    guard = Guard(echo, GuardOptions(), log.append)
    assert call_guard(guard, [{"type": "http.disconnect"}]) == []
    assert [entry.status for entry in log] == [499]


def test_bodies_held_at_once_are_limited() -> None:
    guard = Guard(echo, GuardOptions(max_body_bytes=10))
    guard._held_bytes = 35  # of 40
    body = {"type": "http.request", "body": b"123456", "more_body": False}
    scope_headers = [(b"host", b"127.0.0.1"), (b"content-length", b"6")]
    sent: list[Any] = []

    async def receive() -> Any:
        return body

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/x", "headers": scope_headers}
    asyncio.run(guard(scope, receive, send))
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"1") in sent[0]["headers"]


def test_bodies_that_are_still_coming_are_counted() -> None:
    guard = Guard(echo, GuardOptions(max_body_bytes=10, body_timeout_s=0.05))
    guard._held_bytes = 30

    async def send_parts_of_two_bodies() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message.get("status"))

        def client() -> Any:
            left = [{"type": "http.request", "body": b"123456", "more_body": True}]

            async def receive() -> Any:
                return left.pop() if left else await asyncio.Event().wait()

            headers = [(b"host", b"127.0.0.1")]
            scope = {"type": "http", "method": "POST", "path": "/x", "headers": headers}
            return guard(scope, receive, send)

        await asyncio.gather(client(), client())
        return [status for status in sent if status]

    assert asyncio.run(send_parts_of_two_bodies()) == [503, 408]
    assert guard._held_bytes == 30


def test_a_bug_behind_the_guard_is_logged_with_its_path(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(*_: Any) -> None:
        raise ZeroDivisionError

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": []}
    with caplog.at_level(logging.ERROR, "g4.serve"):
        asyncio.run(Guard(fail, GuardOptions())(scope, receive, send))
    assert sent[0]["status"] == 500
    assert "a bug in g4 at GET '/v1/models'" in caplog.text


def test_keys_and_bodies_do_not_reach_the_log() -> None:
    log: list[Served] = []
    guard = Guard(echo, GuardOptions(keys=("secret",)), log.append)

    async def run() -> None:
        transport = httpx.ASGITransport(guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            headers = {"Authorization": "Bearer secret"}
            await client.post("/v1/x?key=secret", content=b"private", headers=headers)

    asyncio.run(run())
    assert [entry.status for entry in log] == [200]
    assert "secret" not in repr(log)
    assert "private" not in repr(log)

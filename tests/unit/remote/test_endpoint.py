"""The client of OpenAI-style endpoints, against a server that answers as told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from g4cli.core.errors import NetworkError, UsageError
from g4cli.remote import endpoint as module
from g4cli.remote.endpoint import Endpoint, check_url
from tests.support.fakes.endpoint import Answer, FakeEndpoint, refuse, run_endpoint, stream_text

QUESTION = [{"role": "user", "content": "Hi"}]


@contextmanager
def connect(
    answer: Callable[[dict[str, Any]], Answer], key: str = ""
) -> Iterator[tuple[Endpoint, FakeEndpoint, list[str], list[float]]]:
    said: list[str] = []
    slept: list[float] = []
    with run_endpoint(answer) as fake:
        endpoint = Endpoint(fake.url, "m", key, say=said.append, sleep=slept.append)
        try:
            yield endpoint, fake, said, slept
        finally:
            endpoint.close()


def take_turns(*answers: Answer) -> Callable[[dict[str, Any]], Answer]:
    left = list(answers)
    return lambda _body: left.pop(0)


def test_a_streamed_answer_is_read_with_its_figures() -> None:
    with connect(lambda _: stream_text("Hello there", n_tokens=5), "secret") as (end, fake, _, _):
        got = end.answer(QUESTION, {"seed": 3})
    assert (got.text, got.finish_reason, got.model) == ("Hello there", "stop", "served")
    assert (got.prompt_tokens, got.completion_tokens) == (7, 5)
    assert got.first_s is not None
    assert 0 <= got.first_s <= got.total_s
    assert fake.paths == ["/v1/chat/completions"]
    assert fake.headers[0]["Authorization"] == "Bearer secret"
    assert (fake.bodies[0]["seed"], fake.bodies[0]["stream"]) == (3, True)


def test_a_server_that_does_not_stream_is_read_too() -> None:
    document = {
        "model": "plain",
        "choices": [{"message": {"content": "Yes", "reasoning_content": "hm"}}],
        "usage": {"prompt_tokens": True, "completion_tokens": -1},
    }
    body = json.dumps(document, indent=2).encode()
    with connect(lambda _: (200, {}, body)) as (end, _, _, _):
        got = end.answer(QUESTION, {})
    assert (got.text, got.thought, got.prompt_tokens, got.completion_tokens) == (
        "Yes",
        "hm",
        None,
        None,
    )


def test_a_rate_limit_is_waited_for_as_long_as_the_server_says() -> None:
    google = [{"error": {"message": "quota", "details": [{"retryDelay": "34s"}]}}]
    answers = take_turns(
        refuse(429, "slow down", Retry_After="7"),
        (429, {}, json.dumps(google).encode()),
        refuse(503, "loading"),
        stream_text("done"),
    )
    with connect(answers) as (end, _, said, slept):
        assert end.answer(QUESTION, {}).text == "done"
    assert slept == [7.0, 34.0, 8.0]
    assert "slow down" in said[0]


def test_a_server_that_stays_busy_is_given_up() -> None:
    with (
        connect(lambda _: refuse(429, "never", Retry_After="600")) as (end, _, _, slept),
        pytest.raises(NetworkError, match="never"),
    ):
        end.answer(QUESTION, {})
    assert slept == [600.0]


def test_a_parameter_that_is_refused_is_left_out_from_then_on() -> None:
    def answer(body: dict[str, Any]) -> Answer:
        if "seed" in body:
            return refuse(400, 'Unknown name "seed": Cannot find field.')
        return stream_text("ok")

    with connect(answer) as (end, fake, said, _):
        assert end.answer(QUESTION, {"seed": 1}).not_sent == ("seed",)
        end.answer(QUESTION, {"seed": 2})
    assert ["seed" in body for body in fake.bodies] == [True, False, False]
    assert "refuses seed" in said[0]


def test_an_error_has_the_servers_words_but_never_the_key() -> None:
    with (
        connect(lambda _: refuse(401, "Incorrect key: s3cret-key"), "s3cret-key") as (end, _, _, _),
        pytest.raises(NetworkError, match=r"401: Incorrect key: \*\*\*") as caught,
    ):
        end.answer(QUESTION, {})
    assert "@key=VARIABLE" in str(caught.value.hint)


def test_a_server_that_repeats_the_key_does_not_bring_it_into_the_results() -> None:
    # The key is split over two chunks.
    deltas = [{"content": "your s3cret"}, {"content": "-key"}, {"reasoning_content": "s3cret-key"}]
    events: list[dict[str, Any]] = [{"choices": [{"delta": delta}]} for delta in deltas]
    events += [{"model": "s3cret-key", "choices": [{"finish_reason": "s3cret-key" + "x" * 999}]}]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
    with connect(lambda _: (200, {}, body), "s3cret-key") as (end, _, _, _):
        got = end.answer(QUESTION, {})
    assert (got.text, got.thought, got.model) == ("your ***", "***", "***")
    assert got.finish_reason.startswith("***x")
    assert len(got.finish_reason) == 200


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        ({}, b"data: {not json}\n\n", "not JSON"),
        ({}, b'data: ["list"]\n\n', "not an answer"),
        ({}, b"", "empty answer"),
        ({}, b'data: {"error": {"message": "broke"}}\n\n', "broke"),
        ({}, b"data: " + b"[" * 200_000 + b"\n\n", "not JSON"),
        ({"Content-Encoding": "gzip"}, b"\x1f\x8b", "compressed"),
    ],
)
def test_a_wrong_answer_is_an_error(headers: dict[str, str], body: bytes, words: str) -> None:
    with (
        connect(lambda _: (200, headers, body)) as (end, _, _, _),
        pytest.raises(NetworkError, match=words),
    ):
        end.answer(QUESTION, {})


@pytest.mark.parametrize(
    "event",
    [
        {"choices": "x"},
        {"choices": [7]},
        {"choices": [{"delta": [1]}]},
        {"choices": [{"delta": {"content": 5}, "finish_reason": {}}], "usage": [], "model": 1},
    ],
)
def test_fields_of_a_wrong_kind_are_ignored(event: dict[str, Any]) -> None:
    body = f"data: {json.dumps(event)}\n\n".encode()
    with connect(lambda _: (200, {}, body)) as (end, _, _, _):
        got = end.answer(QUESTION, {})
    assert (got.text, got.finish_reason, got.model) == ("", "stop", "m")


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with (
        connect(lambda _: stream_text("x" * 5000)) as (end, _, _, _),
        pytest.raises(NetworkError, match="larger than"),
    ):
        end.answer(QUESTION, {})


def test_a_question_may_hold_bytes_that_are_no_text() -> None:
    with connect(lambda _: stream_text("Hello")) as (end, fake, _, _):
        end.answer([{"role": "user", "content": "\udcff é"}], {})
    assert fake.bodies[0]["messages"][0]["content"] == "\udcff é"


@pytest.mark.parametrize("key", ["abc…", "abc\ndef"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        Endpoint("http://127.0.0.1:1/v1", "m", key)
    assert "abc" not in caught.value.message


def test_a_redirect_is_not_followed() -> None:
    with (
        connect(lambda _: (307, {"Location": "http://127.0.0.1:1/"}, b""), "key") as (end, f, _, _),
        pytest.raises(NetworkError, match="307"),
    ):
        end.answer(QUESTION, {})
    assert len(f.bodies) == 1


def test_a_proxy_that_is_not_supported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    endpoint = Endpoint("http://hub.example/v1", "m")
    with pytest.raises(UsageError, match="ALL_PROXY"):
        endpoint.answer(QUESTION, {})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with connect(lambda _: stream_text("Hello")) as (end, _, _, _):
        assert end.answer(QUESTION, {}).text == "Hello"
    endpoint.close()


def test_a_server_that_is_not_there_is_a_network_error() -> None:
    endpoint = Endpoint("http://127.0.0.1:1/v1", "m")
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:1"):
        endpoint.answer(QUESTION, {})
    endpoint.close()


@pytest.mark.parametrize(
    ("url", "has_key"),
    [
        ("ftp://host/v1", False),
        ("host/v1", False),
        ("http://", False),
        ("http://host:0/v1", False),
        ("http://host:99999/v1", False),
        ("http://1.2.3.999/v1", False),
        ("http://a..b/v1", False),
        (f"http://{'a' * 64}/v1", False),
        ("https://user:pass@host/v1", False),
        ("https://host/v1?key=abc", False),
        ("https://höst/v1", False),
        ("http://host/v1", True),
        ("http://10.0.0.1/v1", True),
    ],
)
def test_a_url_that_is_wrong_or_would_leak_the_key_is_refused(url: str, has_key: bool) -> None:
    with pytest.raises(UsageError) as caught:
        check_url(url, has_key=has_key)
    assert "pass" not in caught.value.message
    assert "abc" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080/v1"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
        ("https://host/v1/chat/completions", "https://host/v1"),
    ],
)
def test_a_url_becomes_the_base_of_the_endpoint(url: str, base: str) -> None:
    assert check_url(url, has_key=True) == base

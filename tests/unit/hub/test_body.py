"""Bodies of responses are read past http.client: plain, over TLS, from misbehaving servers."""

from __future__ import annotations

import ssl
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from g4cli.hub import response
from g4cli.hub.body import Body, Patience
from g4cli.hub.connection import BadAnswer, Connection
from tests.support.fakes.net import Drip, Script, answer, scripted, write_authority

DATA = bytes(range(256)) * 400
QUICK = Patience(gather_s=0.03)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(write_authority(tmp_path / "ca.pem")))


def url_of(script: Script, tls: bool) -> str:
    return f"http{'s' * tls}://localhost:{script.port}/x"


def read_body(reader: Body, *, block: int = 70_000) -> bytes:
    view, found = memoryview(bytearray(block)), b""
    while n := reader.readinto(view):
        found += view[:n]
    return found


def fetch_range(client: Connection, where: str, start: int, end: int) -> bytes:
    return read_body(client.get_range(where, {}, start, end))


def fetched_all(script: Script, tls: bool, *ranges: tuple[int, int]) -> list[bytes]:
    """What one client gets for `ranges`, one after the other."""
    with scripted(script, tls=tls):
        client = Connection(QUICK)
        found = [fetch_range(client, url_of(script, tls), start, end) for start, end in ranges]
        client.close()
    return found


def answer_whole(start: int, end: int) -> bytes:
    return answer(DATA[start:end], f"{start}-{end - 1}/{len(DATA)}")


both = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


@both
def test_ranges_come_over_one_connection(tls: bool) -> None:
    script = Script(
        [[answer_whole(0, 100), answer_whole(100, 100_000), answer_whole(100_000, 102_400)]]
    )
    with scripted(script, tls=tls):
        client = Connection(QUICK)
        parts = [
            fetch_range(client, url_of(script, tls), *r)
            for r in ((0, 100), (100, 100_000), (100_000, 102_400))
        ]
        client.close()
    assert b"".join(parts) == DATA
    assert [len(part) for part in parts] == [100, 99_900, 2400]
    assert b"Range: bytes=100-99999\r\n" in script.requests[1]


@both
def test_a_kept_connection_that_was_closed_is_opened_again(tls: bool) -> None:
    script = Script([[answer_whole(0, 100)], [answer_whole(100, 200)]])
    ranges = (0, 100), (100, 200)
    assert fetched_all(script, tls, *ranges) == [DATA[:100], DATA[100:200]]
    assert len(script.requests) == 2


@both
def test_an_end_in_the_middle_is_an_end(tls: bool) -> None:
    script = Script([[answer_whole(0, 1000)[:-300]]])
    with scripted(script, tls=tls):
        client = Connection(QUICK)
        reader = client.get_range(url_of(script, tls), {}, 0, 1000)
        assert read_body(reader) == DATA[:700]
        assert not reader.finish()
        client.close()


@both
def test_a_shorter_answer_than_its_range(tls: bool) -> None:
    short = answer(DATA[:600], f"0-999/{len(DATA)}")
    script = Script([[short, 0], [answer_whole(600, 1000)]])
    ranges = (0, 1000), (600, 1000)
    assert fetched_all(script, tls, *ranges) == [DATA[:600], DATA[600:1000]]


@both
def test_of_a_longer_answer_only_the_range_is_taken(tls: bool) -> None:
    # What is left in the connection must not be taken for the next answer.
    long = answer(DATA[:5000], f"0-999/{len(DATA)}")
    script = Script([[long, 0], [answer_whole(1000, 2000)]])
    ranges = (0, 1000), (1000, 2000)
    assert fetched_all(script, tls, *ranges) == [DATA[:1000], DATA[1000:2000]]


@both
@pytest.mark.parametrize(
    "head", ["Connection: close\r\nContent-Length: 1000\r\n", "Connection: close\r\n"]
)
def test_an_answer_that_ends_with_its_connection(tls: bool, head: str) -> None:
    last = [
        answer(DATA[a:b], f"{a}-{b - 1}/{len(DATA)}", head=head)
        for a, b in ((0, 1000), (1000, 2000))
    ]
    script = Script([[last[0]], [last[1]]])
    ranges = (0, 1000), (1000, 2000)
    assert fetched_all(script, tls, *ranges) == [DATA[:1000], DATA[1000:2000]]


@both
def test_a_chunked_answer(tls: bool) -> None:
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(c), c) for c in (DATA[:7], DATA[7:600], DATA[600:1000])
    )
    chunked = answer(
        chunks + b"0\r\n\r\n", f"0-999/{len(DATA)}", head="Transfer-Encoding: chunked\r\n"
    )
    script = Script([[chunked, 0], [answer_whole(1000, 2000)]])
    ranges = (0, 1000), (1000, 2000)
    assert fetched_all(script, tls, *ranges) == [DATA[:1000], DATA[1000:2000]]


@pytest.mark.slow
@both
def test_a_slow_line_hands_on_what_has_come(tls: bool) -> None:
    script = Script([[answer_whole(0, 1000)[:-300], 0]])
    with scripted(script, tls=tls):
        client = Connection(replace(QUICK, stall_s=0.1))
        reader = client.get_range(url_of(script, tls), {}, 0, 1000)
        view, got = memoryview(bytearray(1000)), 0
        while got < 700:
            got += reader.readinto(view[got:])
        assert view[:700] == DATA[:700]
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            reader.readinto(view)
        assert 0.1 <= time.monotonic() - started < 30
        client.close()


@both
def test_another_thread_can_wake_a_reader(tls: bool) -> None:
    script = Script([[answer_whole(0, 1000)[:-300], 0]])
    client = Connection(replace(QUICK, stall_s=60))
    with scripted(script, tls=tls), closing(client):
        reader = client.get_range(url_of(script, tls), {}, 0, 1000)
        timer = threading.Timer(0.05, client.abort)
        timer.start()
        started = time.monotonic()
        with suppress(ConnectionResetError):  # of the server, if it notices first
            read_body(reader)
        assert time.monotonic() - started < 30
        timer.join()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            answer(
                b"x" * 10, "0-9/102400", head="Content-Length: 10\r\nContent-Encoding: gzip\r\n"
            ),
            "compressed",
        ),
        (answer(DATA[:10], "1-10/102400"), "not requested"),
        (answer(DATA[:10], "0-9"), "not requested"),
        (answer(DATA[:10], "", status="200 OK"), "ignores byte ranges"),
        (
            answer(b"", "", status="503 Busy", head="Retry-After: 7\r\nContent-Length: 0\r\n"),
            "503 Busy",
        ),
    ],
)
def test_answers_that_are_not_the_bytes(given: bytes, words: str) -> None:
    script = Script([[given]])
    client = Connection(QUICK)
    with scripted(script), pytest.raises(BadAnswer, match=words) as caught, closing(client):
        client.get_range(url_of(script, False), {}, 0, 10)
    assert caught.value.retry_after == (7 if "503" in words else 0)


def test_a_certificate_that_nobody_vouches_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    script = Script([[answer_whole(0, 10)]])
    client = Connection(QUICK)
    with scripted(script, tls=True), pytest.raises(ssl.SSLCertVerificationError), closing(client):
        client.get_range(url_of(script, True), {}, 0, 10)


@pytest.mark.slow
@both
def test_a_byte_now_and_then_is_too_slow(tls: bool) -> None:
    """As of a server that sends a byte every 29 seconds, on another scale."""
    script = Script([[Drip(answer(b"", "0-999/1000", head="Content-Length: 1000\r\n"))]])
    patience = replace(QUICK, stall_s=30, slow_s=0.3)
    with scripted(script, tls=tls), closing(Connection(patience)) as client:
        reader = client.get_range(url_of(script, tls), {}, 0, 1000)
        with pytest.raises(TimeoutError, match="less than 1 KiB/s"):
            read_body(reader, block=1)


HEAD = b"HTTP/1.1 206 Partial Content\r\n"
CHUNKED = HEAD + b"Content-Range: bytes 0-999/1000\r\nTransfer-Encoding: chunked\r\n\r\n"
DRIPS = {
    "a status line": Drip(b"HTTP/1.1 206 "),
    "a header line": Drip(HEAD + b"X: "),
    "interim responses": Drip(b"HTTP/1.1 100 Continue\r\n", b"\r\nHTTP/1.1 100 Continue\r\n"),
    "a chunk's size line": Drip(CHUNKED + b"9;"),
    "lines behind the last chunk": Drip(CHUNKED + b"0\r\n", b"x: y\r\n"),
}


@pytest.mark.slow
@both
@pytest.mark.parametrize("name", DRIPS)
def test_lines_that_never_end_are_given_up(
    monkeypatch: pytest.MonkeyPatch, tls: bool, name: str
) -> None:
    """Each byte comes in time, the whole never."""
    monkeypatch.setattr(response, "HEADER_S", 0.3)
    script = Script([[DRIPS[name]]])
    with scripted(script, tls=tls):
        client = Connection(replace(QUICK, slow_s=0.3))
        with pytest.raises(TimeoutError):
            fetch_range(client, url_of(script, tls), 0, 1000)
        client.close()


@pytest.mark.slow
def test_a_proxy_that_never_ends_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "HEADER_S", 0.3)
    script = Script([[Drip(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n")]])
    with scripted(script):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{script.port}")
        with closing(Connection(QUICK)) as client, pytest.raises(TimeoutError):
            client.get_range("https://hub.example/x", {}, 0, 10)

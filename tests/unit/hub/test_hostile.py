"""Every answer of a malicious hub gives a typed error, in bounded time and memory."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from g4cli.core.errors import BadFile, G4Error, NetworkError, UsageError
from g4cli.hub import Hub, HubOptions, Repository, bounds
from g4cli.hub.connection import BadAnswer, Connection
from tests.support.fakes.hub import FakeHub, Handler, git_oid, running
from tests.support.fakes.net import Drip, Script, scripted

REPO = "a/b"
TREE: list[dict[str, Any]] = [
    {"type": "directory", "oid": "d" * 40, "size": 0, "path": "folder"},
    {
        "type": "file",
        "oid": "e" * 40,
        "size": 9,
        "path": "m-Q4_0.gguf",
        "lfs": {"oid": "a" * 64, "size": 9, "pointerSize": 130},
    },
    {"type": "file", "oid": git_oid(b"{}"), "size": 2, "path": "config.json"},
]
INFO: dict[str, Any] = {
    "_id": "1", "id": REPO, "modelId": REPO, "sha": "c" * 40,
    "siblings": [{"rfilename": "config.json"}],
    "tags": [], "private": False, "downloads": 0, "likes": 0,
}  # fmt: skip


class Liar(Handler):
    """Answers with what the test has put here."""

    info_body: Any = INFO
    tree_body: Any = TREE
    head: Any = None

    def info(self, name: str, _revision: str | None) -> None:
        assert name == REPO
        self.raw(self.info_body)

    def tree(self, _name: str, _query: dict[str, list[str]]) -> None:
        self.raw(self.tree_body, self.head)

    def raw(self, body: Any, head: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answer(200, data, {"Content-Type": "application/json", **(head or {})})


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Liar]]:
    """A hub at HF_ENDPOINT that says whatever it is told to."""
    kind = type("OneLiar", (Liar,), {})
    with running(FakeHub(), kind) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield kind


def read_listing(**limits: Any) -> Repository:
    return Hub(replace(HubOptions.from_environment(), **limits)).read_repository(REPO)


def test_the_honest_answer_is_one(liar: type[Liar]) -> None:
    assert liar.info_body is INFO
    assert [f.path for f in read_listing().files] == ["m-Q4_0.gguf", "config.json"]


# --- shapes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sha",
    ["/outside", "../../x", "main", "", None, 5, ["c" * 40], "C" * 40, "c" * 39, "c" * 40 + "\n"],
)
def test_a_commit_is_a_hash_and_nothing_else(liar: type[Liar], sha: object) -> None:
    liar.info_body = {**INFO, "sha": sha}
    with pytest.raises(BadFile, match="invalid commit"):
        read_listing()


def listing_with(**fields: object) -> list[object]:
    """Return a listing whose last row has other fields."""
    return [*TREE[:1], {**TREE[1], **fields}]


SHAPES: dict[str, object] = {
    "no list": {"a": 1},
    "rows that are texts": ["a", "b"],
    "rows that are numbers": [1],
    "rows that are lists": [[1]],
    "a size in words": listing_with(lfs=None, size="12"),
    "a negative size": listing_with(lfs=None, size=-1),
    "a size beyond any disk": listing_with(lfs=None, size=1 << 70),
    "a size that is true": listing_with(lfs=None, size=True),
    "a fractional size": listing_with(lfs=None, size=1.5),
    "a lone surrogate": listing_with(path="m\ud800-Q4_0.gguf"),
    "a path that is a list": listing_with(path=["m"]),
    "no path": listing_with(path=None),
    "a right-to-left override": listing_with(path="m\u202e-Q4_0.gguf"),
    "a C1 control": listing_with(path="m\u009b-Q4_0.gguf"),
    "an LFS record that is a list": listing_with(lfs=[1, 2]),
    "an LFS record that is a text": listing_with(lfs="x"),
    "an LFS record without hash": listing_with(lfs={"size": 9, "pointerSize": 1}),
    "an LFS hash that is a path": listing_with(
        lfs={"oid": "../../" + "a" * 58, "size": 9, "pointerSize": 1}
    ),
    "an LFS hash that is a number": listing_with(lfs={"oid": 7, "size": 9, "pointerSize": 1}),
    "an LFS size in words": listing_with(lfs={"oid": "a" * 64, "size": "nine", "pointerSize": 1}),
    "a git hash that is a path": listing_with(lfs=None, oid="/etc/passwd"),
    "a dictionary for a row's oid": listing_with(lfs=None, oid={}),
    "no JSON": b"<html>",
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "a number without end": b"[" + b"9" * 5000 + b"]",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_listings_of_other_shapes(liar: type[Liar], name: str) -> None:
    liar.tree_body = SHAPES[name]
    with pytest.raises((NetworkError, BadFile)) as caught:
        read_listing()
    assert caught.value.hint


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def draw_mutation(draw: st.DrawFn, body: object) -> object:
    """Return `body` with some values replaced or removed anywhere in it."""
    body = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, 3))):
        at: Any = body
        while isinstance(at, (dict, list)) and at:
            key = draw(st.sampled_from(list(at) if isinstance(at, dict) else range(len(at))))
            inside = at[key]
            if isinstance(inside, (dict, list)) and inside and draw(st.booleans()):
                at = inside
                continue
            if draw(st.booleans()):
                at[key] = draw(JSON)
            else:
                del at[key]
            break
    return body


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(info=draw_mutation(INFO), tree=draw_mutation(TREE))
def test_any_mutation_is_a_listing_or_a_typed_error(
    liar: type[Liar], info: object, tree: object
) -> None:
    liar.info_body, liar.tree_body = info, tree
    try:
        found = read_listing()
    except (NetworkError, BadFile):
        return
    assert found.commit == "c" * 40
    assert isinstance(tree, list)
    records = {row["path"]: row.get("lfs") for row in tree if row.get("type") == "file"}
    for file in found.files:
        assert ".." not in file.path.split("/")
        assert file.path.isprintable()
        assert file.sha256 == (records[file.path]["oid"] if records[file.path] else "")


# --- answers without end ----------------------------------------------------------------


def test_a_listing_without_end(liar: type[Liar], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_REQUESTS", 20)
    url = f"{HubOptions.from_environment().endpoint}/api/models/{REPO}/tree/{'c' * 40}"
    liar.head = {"Link": f'<{url}>; rel="next"'}
    liar.tree_body = []
    with pytest.raises(NetworkError, match="sent too much: more than 20 answers"):
        read_listing()


def test_a_listing_of_too_many_rows(liar: type[Liar]) -> None:
    assert len(liar.tree_body) == 3
    with pytest.raises(BadFile, match="more than 2 files"):
        read_listing(max_rows=2)


def test_too_many_bytes(liar: type[Liar], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_BYTES", 10_000)
    liar.tree_body = b"[" + b" " * 20_000 + b"]"
    with pytest.raises(NetworkError, match=r"more than 9\.77 KiB for one request"):
        read_listing()


@pytest.mark.slow
def test_an_answer_that_grows_when_unpacked(liar: type[Liar]) -> None:
    liar.head = {"Content-Encoding": "gzip"}
    liar.tree_body = gzip.compress(b"[" + b" " * 50_000_000 + b"]")
    with pytest.raises(NetworkError, match="compressed"):
        read_listing()


@pytest.mark.slow
def test_a_header_that_comes_byte_by_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, the whole never."""
    monkeypatch.setattr(bounds, "MAX_SECONDS", 0.5)
    script = Script([[Drip(b"HTTP/1.1 200 OK\r\nX: ")]] * 3)
    with scripted(script):
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{script.port}")
        with pytest.raises(NetworkError, match="sent too much: more than"):
            read_listing()


def test_a_wait_that_is_no_number(liar: type[Liar], monkeypatch: pytest.MonkeyPatch) -> None:
    def info(self: Liar, *_: object) -> None:
        self.answer(503, b"{}", {"Retry-After": "\xb2"})

    monkeypatch.setattr(liar, "info", info)
    with pytest.raises(NetworkError, match="503"):
        read_listing(waits_s=(0.0,))


# --- where a token goes -----------------------------------------------------------------


def test_the_next_page_elsewhere_never_sees_the_token(
    liar: type[Liar], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    seen: list[str | None] = []
    port = HubOptions.from_environment().endpoint.rpartition(":")[2]
    path = f"/api/models/{REPO}/tree/{'c' * 40}"

    def tree(self: Liar, *_: object) -> None:
        seen.append(self.headers.get("Authorization"))
        more = (
            {"Link": f'<http://localhost:{port}{path}?page=2>; rel="next"'}
            if len(seen) == 1
            else {}
        )
        self.raw(TREE, more)

    monkeypatch.setattr(liar, "tree", tree)
    read_listing()
    assert seen == ["Bearer hf_secret", None]


def test_a_password_in_the_endpoint_is_never_shown(
    liar: type[Liar], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = HubOptions.from_environment().endpoint.rpartition(":")[2]
    for endpoint, body in (
        (f"http://me:pa55word@127.0.0.1:{port}", b"<html>"),
        ("http://me:pa55word@127.0.0.1:9", b""),
    ):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        liar.tree_body = body
        with pytest.raises(G4Error) as caught:
            read_listing()
        assert "pa55word" not in f"{caught.value.message} {caught.value.hint}"
        assert "127.0.0.1" in caught.value.message


# --- redirects and ranges of the storage ------------------------------------------------

PLACES = [
    "http://127.0.0.1:99999/x",
    "http://[::1/x",
    "http://" + "a" * 70 + ".example/x",
    "http://a..example/x",
    "http:///x",
    "file:///etc/passwd",
    "http://127.0.0.1:0/x",
    "gopher://127.0.0.1/x",
]


def make_redirecting(
    place: str | Callable[[], str], head: dict[str, str] | None = None
) -> type[Handler]:
    class Storage(Handler):
        def do_GET(self) -> None:  # noqa: N802
            where = place if isinstance(place, str) else place()
            self.answer(302 if where else 206, b"x", {"Location": where, **(head or {})})

    return Storage


@pytest.mark.parametrize("place", PLACES)
def test_redirects_to_nowhere(place: str) -> None:
    with running(FakeHub(), make_redirecting(place)) as hub, pytest.raises(BadAnswer):
        Connection().get_range(hub.url + "/f", {}, 0, 1)


def test_a_redirect_to_a_path_that_is_not_ascii() -> None:
    with (
        running(FakeHub(), make_redirecting("/caf\xe9 x")) as hub,
        pytest.raises(BadAnswer, match="too many"),
    ):
        Connection().get_range(hub.url + "/f", {}, 0, 1)
    assert hub.requests == []


@pytest.mark.parametrize(
    "text", ["bytes 0-0/" + "9" * 5000, "bytes " + "0" * 5000 + "-0/1", "bytes \xb2-0/1"]
)
def test_ranges_that_are_no_numbers(text: str) -> None:
    with (
        running(FakeHub(), make_redirecting("", {"Content-Range": text})) as hub,
        pytest.raises(BadAnswer),
    ):
        Connection().get_range(hub.url + "/f", {}, 0, 1)


def test_a_redirect_without_tls_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.support.fakes.net import server_context, write_authority

    monkeypatch.setenv("SSL_CERT_FILE", str(write_authority(tmp_path / "ca.pem")))
    hub = FakeHub(tls=server_context())
    with (
        running(FakeHub()) as plain,
        running(hub, make_redirecting(lambda: f"http://127.0.0.1:{plain.port}/f")),
        pytest.raises(BadAnswer, match="from https to http: refused"),
    ):
        Connection().get_range(hub.url + "/f", {"Authorization": "Bearer secret"}, 0, 1)
    assert plain.requests == []


@pytest.mark.parametrize(
    "proxy",
    [
        "https://me:pa55word@127.0.0.1:9",
        "socks5://127.0.0.1:9",
        "http://127.0.0.1:99999",
        "http://",
    ],
)
def test_proxies_that_cannot_be_used_are_refused(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(UsageError, match="HTTPS_PROXY=") as caught:
        Connection().get_range("https://hub.example/f", {}, 0, 1)
    assert "pa55word" not in caught.value.message

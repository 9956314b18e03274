"""What every request passes before a route sees it: addresses, origins, keys, sizes, and time.

A server on 127.0.0.1 is reached by every program of this machine, and by every page that a browser
of this machine shows. Two checks keep pages out. *Host*: a page of evil.example can let its own
name point to 127.0.0.1 (DNS rebinding) and then reads answers as its own; its requests carry
`Host: evil.example`. So a request is refused unless its host is localhost, this machine's name, a
name that was given, or any IP address, which needs no DNS. *Origin*: browsers name the page that
sends a request; only those that were given, and the server's own, may use it.

The whole body is read here, before the route runs: a client that sends slowly or too much is
refused before the model has any work. (`protocol` watches headers and sending.)
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from g4cli.server.errors import HttpError, Problem, explain_and_log
from g4cli.server.limits import BODY_TIMEOUT_S, MAX_BODY_BYTES, MIN_BODY_RATE

# Paths that need no key; "/" is the page of `g4 serve` in the browser.
_PUBLIC: Final = frozenset(("/", "/health", "/v1/health"))
_PAGE: Final = "/page/"
_PAGE_API: Final = "/page/api/"
# The last two are how a container of Docker and of Podman names the machine that it runs on.
_LOCAL_NAMES: Final = ("localhost", "host.docker.internal", "host.containers.internal")
# An IPv6 address in brackets, or a name or other address; then perhaps a port.
_HOST: Final = re.compile(r"(?:\[([^\[\]\s]*:[^\[\]\s]*)\]|([^\[\]\s:/?#@\\]+))(?::[0-9]*)?")
_CORS_METHODS: Final = "GET, POST, OPTIONS"
_MAX_CORS_HEADER: Final = 1024  # a choice: characters of the request that are sent back
_CORS_AGE_S: Final = "600"  # a choice: how long a browser may rely on the answer
_POLICY_VIOLATION: Final = 1008  # a WebSocket's close code, RFC 6455
_MAX_HELD_BODIES: Final = 4  # of the largest size at once, a choice
_CLIENT_LEFT: Final = 499  # nginx's status, for the log alone: the client went away


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """Who may use the server, and how large and how slow a body may be.

    `hosts`: names, besides IP addresses and those of this machine, by which it may be addressed.
    `origins`: pages that may use it ("*": all). `keys`: one of them must come with each request; no
    key is needed if there is none. Sizes in bytes, times in seconds. Between two pieces of a body
    at most `body_timeout_s` may pass, and for all of it that time and a second more for each
    `min_body_rate` bytes that have come. All bodies together may take as much as four of the
    largest.
    """

    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    max_body_bytes: int = MAX_BODY_BYTES
    body_timeout_s: float = BODY_TIMEOUT_S
    min_body_rate: int = MIN_BODY_RATE


@dataclass(frozen=True, slots=True)
class Served:
    """One request that was answered, for the log.

    `status` 499: the client went away before. `client`: its IP address.
    """

    method: str
    path: str
    status: int
    seconds: float
    client: str


class Guard:
    """The outermost ASGI application: checks a request, then passes it on."""

    def __init__(
        self,
        app: ASGIApp,
        options: GuardOptions,
        log: Callable[[Served], None] = lambda _: None,
    ) -> None:
        self._app, self._options, self._log = app, options, log
        self._hosts = {name.lower().rstrip(".") for name in (*options.hosts, *_LOCAL_NAMES)}
        machine = socket.gethostname().lower()
        self._hosts |= {machine, f"{machine.split('.')[0]}.local"}  # .local: its name in mDNS
        # Python gives bytes of a command line that are not UTF-8 as surrogates: back to the bytes.
        self._key_hashes = [
            _hash_key(key.encode("utf-8", "surrogateescape")) for key in options.keys
        ]
        self._held_bytes = 0  # of the bodies of all requests under way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is no request (start and end of the server)."""
        if scope["type"] == "websocket":  # no route of g4 has one
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _read_headers(scope)
        exchange = _Exchange(send, self._cors_headers(headers))
        started = time.perf_counter()
        try:
            await self._answer_request(scope, headers, receive, exchange)
        except Exception as err:
            # An error of a route was answered and logged before it came here.
            if not exchange.status:
                problem = explain_and_log(err, scope["method"], scope["path"])
                await _send_problem(problem, scope, receive, exchange)
        finally:
            client = scope["client"][0] if scope.get("client") else ""
            seconds = time.perf_counter() - started
            self._log(
                Served(
                    scope["method"], scope["path"], exchange.status or _CLIENT_LEFT, seconds, client
                )
            )

    async def _answer_request(
        self, scope: Scope, headers: dict[str, str], receive: Receive, exchange: _Exchange
    ) -> None:
        body = b""
        try:
            self._check_headers(scope, headers)
            if scope["method"] == "OPTIONS" and "origin" in headers:
                await Response(status_code=204)(scope, receive, exchange.send)
                return
            if scope["method"] == "HEAD":  # what GET answers; uvicorn leaves the body out
                scope = {**scope, "method": "GET"}
            if scope["method"] not in ("GET", "OPTIONS"):
                body = await self._read_body(headers, receive, exchange)
                _set_content_type(scope)
            await self._app(scope, _replay_body(body, receive), exchange.send)
        except HttpError as err:  # those of routes are answered within the application
            await _send_problem(err.problem, scope, receive, exchange)
        finally:
            self._held_bytes -= exchange.held_bytes

    def _check_headers(self, scope: Scope, headers: dict[str, str]) -> None:
        """Raise HttpError if a request is refused by its headers."""
        # A browser always sends the host; only programs with HTTP/1.0 do not.
        host, origin = headers.get("host", ""), headers.get("origin", "")
        if host and not self._is_own_host(host):
            what = f"the host {host[:100]} is not this server: --allow-host names it"
            raise HttpError(Problem(403, what, code="host"))
        if origin and not self._may_use(origin, host):
            what = f"pages of {origin[:100]} may not use this server: --cors-origin"
            raise HttpError(Problem(403, what, code="origin"))
        # Browsers send no Origin with what a page embeds (an image, a script), but Sec-Fetch-Site.
        # To follow a link ("navigate") is harmless: the page it stands in cannot read the answer.
        is_own = origin or headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        if not is_own and headers.get("sec-fetch-mode") != "navigate":
            raise HttpError(Problem(403, "other pages may not use this server", code="origin"))
        is_preflight = scope["method"] == "OPTIONS" and origin
        if not is_preflight and not _is_public(scope["path"]) and not self._has_key(headers):
            what = "a valid API key is needed: Authorization: Bearer KEY"
            headers = {"WWW-Authenticate": "Bearer"}
            raise HttpError(Problem(401, what, code="invalid_api_key", headers=headers))

    def _is_own_host(self, host: str) -> bool:
        name = _host_name(host)
        if name is None:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts or name.endswith(".localhost")
        return True

    def _may_use(self, origin: str, host: str) -> bool:
        """Return whether a page of `origin` may use the server that it addresses as `host`.

        Besides the origins that were given only this server's own page may: its origin is `host`.
        """
        if "*" in self._options.origins or origin in self._options.origins:
            return True
        try:
            own = urlsplit(origin)
        except ValueError:  # "http://[x" is no address
            return False
        return own.scheme in ("http", "https") and bool(host) and own.netloc.lower() == host.lower()

    def _has_key(self, headers: dict[str, str]) -> bool:
        """Return whether the request carries a key; all of them are compared, in constant time."""
        if not self._key_hashes:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        candidates = [given.strip(" \t")] if scheme.lower() == "bearer" else []
        candidates.append(headers.get("x-api-key", ""))
        has_key = False
        for candidate in candidates:
            # Headers are read as Latin-1, in which browsers send a key; curl sends it in UTF-8.
            for key in (candidate.encode("latin-1"), candidate.encode("utf-8")):
                digest = _hash_key(key)
                for known in self._key_hashes:
                    has_key |= hmac.compare_digest(digest, known)
        return has_key

    def _cors_headers(self, headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
        origin = headers.get("origin", "")
        if not origin or not self._may_use(origin, headers.get("host", "")):
            return []
        cors = {
            "access-control-allow-origin": origin,
            "vary": "Origin",
            "access-control-allow-methods": _CORS_METHODS,
            "access-control-max-age": _CORS_AGE_S,
        }
        if asked := headers.get("access-control-request-headers", ""):
            cors["access-control-allow-headers"] = asked[:_MAX_CORS_HEADER]
        # Chrome asks this before a page from a public address may reach a private one.
        if headers.get("access-control-request-private-network") == "true":
            cors["access-control-allow-private-network"] = "true"
        return [(name.encode(), value.encode("latin-1")) for name, value in cors.items()]

    async def _read_body(
        self, headers: dict[str, str], receive: Receive, exchange: _Exchange
    ) -> bytes:
        """Return the body of a request. Raises HttpError if it is too large or too slow."""
        given = headers.get("content-length", "")
        # 0: unknown, as in chunks. Numbers of more than 20 digits are too large in any case.
        length = int(given[:20]) if given.isdecimal() else 0
        self._check_room(length, self._held_bytes + length)
        pieces: list[bytes] = []
        pause_s = self._options.body_timeout_s
        begun = time.monotonic()
        while True:
            most_s = pause_s + exchange.held_bytes / self._options.min_body_rate
            left_s = begun + most_s - time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), min(pause_s, left_s))
            except asyncio.TimeoutError:
                raise HttpError(
                    Problem(408, "the body did not come in time", code="timeout")
                ) from None
            if message["type"] == "http.disconnect":
                raise HttpError(Problem(_CLIENT_LEFT, "the client went away"))
            pieces.append(message.get("body", b""))
            # Bodies that are still coming count too: many at once would fill the memory.
            exchange.held_bytes += len(pieces[-1])
            self._held_bytes += len(pieces[-1])
            self._check_room(exchange.held_bytes, self._held_bytes)
            if not message.get("more_body", False):
                return b"".join(pieces)

    def _check_room(self, nbytes: int, held_bytes: int) -> None:
        """Raise HttpError if a body of `nbytes`, or all bodies together, are too large."""
        most = self._options.max_body_bytes
        if nbytes > most:
            what = f"the body is larger than {most:,} bytes"
            raise HttpError(Problem(413, what, code="body-too-large"))
        if held_bytes > _MAX_HELD_BODIES * most:
            what = "the server holds as many large requests as it may"
            raise HttpError(Problem(503, what, code="queue-full", headers={"Retry-After": "1"}))


class _Exchange:
    """The sending side of one request: remembers its status and adds the CORS headers.

    `held_bytes`: how much of its body has been read.
    """

    def __init__(self, send: Send, extra_headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._extra_headers = list(extra_headers)
        self.status = 0
        self.held_bytes = 0

    async def send(self, message: Message) -> None:
        """Send a message of ASGI to the client."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._extra_headers]
        await self._send(message)


def _is_public(path: str) -> bool:
    """Return whether a path needs no key: the page, which asks for it, and whether the server runs.

    Drawings are below /page/ too: an iframe cannot send a key, but their names cannot be guessed.
    """
    return path in _PUBLIC or (path.startswith(_PAGE) and not path.startswith(_PAGE_API))


def _read_headers(scope: Scope) -> dict[str, str]:
    """Return the headers; of one that comes twice the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _host_name(host: str) -> str | None:
    """Return the name or address in a Host header without its port, or None if it is none."""
    match = _HOST.fullmatch(host)
    if not match:
        return None
    # Without the zone of an IPv6 address.
    return (match[1] or match[2]).lower().rstrip(".").partition("%")[0]


def _hash_key(key: bytes) -> bytes:
    """Return a digest of fixed length: a comparison must not tell how long a key is."""
    return hashlib.sha256(key).digest()


def _set_content_type(scope: Scope) -> None:
    """Take a body of no type, or of the type that `curl -d` sends, as JSON."""
    form = b"application/x-www-form-urlencoded"
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    if not types or types == [form]:
        others = [item for item in scope["headers"] if item[0] != b"content-type"]
        scope["headers"] = [*others, (b"content-type", b"application/json")]


def _replay_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body that was read already, then what comes after it."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Any:
        return left.pop() if left else await receive()

    return receive_again


async def _send_problem(
    problem: Problem, scope: Scope, receive: Receive, exchange: _Exchange
) -> None:
    if problem.status == _CLIENT_LEFT:
        return
    # What is left of the body is not read: the connection cannot be used again.
    headers = {**problem.headers, "Connection": "close"}
    response = JSONResponse(problem.as_body(scope["path"]), problem.status, headers)
    await response(scope, receive, exchange.send)

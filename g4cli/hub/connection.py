"""Request a byte range by HTTP; body.py reads the response.

Proxies (see proxies.py) and certificates (SSL_CERT_FILE, REQUESTS_CA_BUNDLE,
CURL_CA_BUNDLE, or else those that huggingface_hub finds) are honored. A few redirects are
followed. A token is never sent to another host.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Final, cast
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from g4cli.core.errors import NetworkError, UsageError
from g4cli.hub.body import Body, Patience
from g4cli.hub.bounds import origin_of
from g4cli.hub.proxies import find_proxy
from g4cli.hub.response import TimedResponse, is_compressed, retry_seconds

_BUNDLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_MAX_REDIRECTS: Final = 5  # a choice: the hub redirects once or twice
_BAD_REDIRECT: Final = 310  # the status of a BadAnswer about a redirect; no server sends it
_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


class BadAnswer(Exception):
    """A response without the requested bytes; `status` is that of HTTP, or _BAD_REDIRECT.

    `retry_after` is in seconds, 0 if the server named none.
    """

    def __init__(self, status: int, what: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {what}".strip())
        self.status, self.retry_after = status, retry_after


class Connection:
    """An HTTP connection that stays open between requests to the same host."""

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        # scheme and host[:port] of the URLs that it is for, and the connection
        self._open: tuple[tuple[str, str], http.client.HTTPConnection] | None = None
        self._sock: socket.socket | None = None  # of the open connection
        self._body: Body | None = None  # of the last response, of which bytes may be unread

    def get_range(self, url: str, headers: Mapping[str, str], start: int, end: int) -> Body:
        """Return the response with the bytes from `start` to `end` (exclusive).

        Raises BadAnswer for any status but 206 with the right range, OSError or
        http.client.HTTPException for a broken connection.
        """
        sent = {**headers, "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        # Unread bytes of the previous response would be taken for the next one.
        if self._body is not None and not self._body.finish():
            self.close()
        self._body = None
        for _ in range(_MAX_REDIRECTS):
            response = self._get_response(url, sent)
            if response.status not in (301, 302, 303, 307, 308):
                try:
                    return self._check_response(response, start, end)
                except BaseException:
                    response.close()
                    self.close()
                    raise
            location = response.headers.get("Location", "")
            response.close()
            self.close()
            target = _resolve_redirect(url, location)
            if origin_of(target) != origin_of(url):
                sent = {k: v for k, v in sent.items() if k.lower() != "authorization"}
            url = target
        raise BadAnswer(_BAD_REDIRECT, "too many redirects")

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._body:
            self._body.close()
        if self._open:
            self._open[1].close()
        self._open = self._sock = self._body = None

    def abort(self) -> None:
        """Interrupt a thread that waits for bytes; it finds the end of them, or gets an OSError.

        May be called from any thread.
        """
        sock = self._sock
        if sock:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _get_response(self, url: str, headers: Mapping[str, str]) -> TimedResponse:
        """Return the response before its body is read.

        A connection closed by the server is opened again.
        """
        was_open = self._open is not None
        try:
            return self._send_request(url, headers)
        except ConnectionError:
            # A server may close an idle connection at any time; a new one that fails is an error.
            if not was_open:
                raise
            self.close()
            return self._send_request(url, headers)

    def _send_request(self, url: str, headers: Mapping[str, str]) -> TimedResponse:
        parts = _parse_url(url)
        key = (parts.scheme, parts.netloc)
        if self._open and self._open[0] != key:
            self.close()
        # A proxy that expects TLS would get its password in clear text: only http is supported.
        proxy = find_proxy(parts)
        if not self._open:
            self._open = (key, _open_connection(parts, proxy, self._patience.stall_s))
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if proxy and parts.scheme == "http":  # an HTTP proxy needs the whole URL
            path, headers = f"http://{parts.netloc}{path}", {**headers, **_proxy_auth(proxy)}
        connection = self._open[1]
        connection.request("GET", path, headers=dict(headers))
        self._sock = connection.sock  # http.client drops its reference if the server closes
        return cast(TimedResponse, connection.getresponse())

    def _check_response(self, response: TimedResponse, start: int, end: int) -> Body:
        if response.status == 206:
            match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
            if not match or (int(match[1]), int(match[2])) != (start, end - 1):
                raise BadAnswer(206, "with a range that was not requested")
            if is_compressed(response.headers):
                raise BadAnswer(206, "compressed, although that was not requested")
            assert self._sock is not None
            total = -1 if match[3] == "*" else int(match[3])
            self._body = Body(response, self._sock, end - start, total, self._patience)
            return self._body
        if response.status == 200:
            raise BadAnswer(200, "the server, or a proxy, ignores byte ranges")
        raise BadAnswer(response.status, response.reason or "", retry_seconds(response.headers))


def split_http_url(url: str) -> SplitResult | None:
    """Return the parts of an http or https URL, None if it is no valid one."""
    with suppress(ValueError):  # an invalid port or IPv6 address
        parts = urlsplit(url)
        labels = (parts.hostname or "").removesuffix(".").split(".")
        if (
            parts.scheme in ("http", "https")
            # RFC 1035; Python's resolver raises UnicodeError for other labels.
            and all(0 < len(label) < 64 for label in labels)
            and parts.port != 0
            and url.isascii()
            and url.isprintable()
        ):
            return parts
    return None


def _parse_url(url: str) -> SplitResult:
    parts = split_http_url(url)
    if parts is None:
        raise BadAnswer(_BAD_REDIRECT, "redirects to an invalid address")
    return parts


def _resolve_redirect(url: str, location: str) -> str:
    """Return the target of a redirect.

    Raises BadAnswer if it is invalid or leads from https to http.
    """
    try:
        # http.client reads headers as Latin-1: these are the bytes that the server sent. `safe` are
        # the characters with a meaning in URLs (RFC 3986), and "%", which is quoted already.
        target = urljoin(url, quote(location.encode("latin-1"), safe="%/:=&?~#+!$,;'@()*[]"))
    except ValueError as err:
        raise BadAnswer(_BAD_REDIRECT, "redirects to an invalid address") from err
    if _parse_url(target).scheme == "http" and urlsplit(url).scheme == "https":
        raise BadAnswer(_BAD_REDIRECT, "redirects from https to http: refused")
    return target


def _open_connection(
    parts: SplitResult, proxy: SplitResult | None, stall_s: float
) -> http.client.HTTPConnection:
    """Return a connection for the URL `parts`; http.client connects at the first request."""
    host, port = parts.hostname or "", parts.port
    through = (proxy.hostname or "", proxy.port or 80) if proxy else (host, port)
    connection: http.client.HTTPConnection
    if parts.scheme == "http":
        connection = http.client.HTTPConnection(*through, timeout=stall_s)
    else:
        context = load_certificates() or _default_tls_context()
        connection = http.client.HTTPSConnection(*through, timeout=stall_s, context=context)
        if proxy:
            connection.set_tunnel(host, port or 443, headers=_proxy_auth(proxy))
    connection.response_class = TimedResponse
    return connection


def _proxy_auth(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(login.encode()).decode()}


def load_certificates() -> ssl.SSLContext | None:
    """Return the certificates that SSL_CERT_FILE, REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE name.

    None if none of them is set. Raises UsageError if one cannot be read.
    """
    return _trust_bundles(
        tuple((name, os.environ[name]) for name in _BUNDLES if os.environ.get(name))
    )


@lru_cache(maxsize=1)
def _trust_bundles(bundles: tuple[tuple[str, str], ...]) -> ssl.SSLContext | None:
    if not bundles:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name, bundle in bundles:
        try:
            is_folder = os.path.isdir(bundle)
            context.load_verify_locations(*(None, bundle) if is_folder else (bundle, None))
        except OSError as err:
            raise UsageError(
                f"{name}={bundle}: the certificates cannot be read ({err.strerror or err})",
                hint=f"unset {name}",
            ) from err
    return context


def untrusted_error(host: str, err: ssl.SSLCertVerificationError) -> NetworkError:
    """Return the error for a certificate of `host` that is not trusted."""
    return NetworkError(
        f"{host}: its certificate is not trusted: {err.verify_message}",
        hint="set SSL_CERT_FILE to the certificates of your network, then run the command again",
    )


@lru_cache(maxsize=1)
def _default_tls_context() -> ssl.SSLContext:
    import httpx2  # trust what huggingface_hub itself trusts

    return httpx2.create_ssl_context()

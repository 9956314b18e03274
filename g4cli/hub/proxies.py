"""The proxies that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name."""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from g4cli.core.errors import UsageError

if TYPE_CHECKING:
    import httpx2


def find_proxy(parts: SplitResult, schemes: tuple[str, ...] = ("http",)) -> SplitResult | None:
    """Return the proxy for a URL, None if there is none.

    `schemes` are those of proxies that the caller supports: connection.py only http, httpx2 https
    too. Raises UsageError for a proxy of another scheme.
    """
    proxies = getproxies()
    name = parts.scheme if proxies.get(parts.scheme) else "all"
    address = proxies.get(name)
    if not address or proxy_bypass(parts.netloc):
        return None
    try:
        proxy = urlsplit(address if "//" in address else f"http://{address}")
        if proxy.scheme in schemes and proxy.hostname and proxy.port != 0:
            return proxy
        what = f"by {proxy.scheme}"
    except ValueError:
        what = "with such an address"
    variable = f"{name.upper()}_PROXY"
    raise UsageError(
        f"{variable}={without_login(address)}: a proxy {what} is not supported, only http",
        hint=f"export {parts.scheme.upper()}_PROXY=http://HOST:PORT",
    )


def without_login(url: str) -> str:
    """Return `url` without a user's name and password."""
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"


def make_transport(context: ssl.SSLContext | None) -> httpx2.BaseTransport:
    """Return what sends the requests of an httpx2.Client, through the proxy for each URL.

    `context` holds the trusted certificates; None: the default ones. httpx2 itself fails if any of
    the variables names a proxy that it does not know, such as ALL_PROXY=socks5://HOST, even where
    another one is for the URL.
    """
    import httpx2

    verify = context if context is not None else True

    class ByProxy(httpx2.BaseTransport):
        def __init__(self) -> None:
            self._lock = threading.Lock()
            self._by_proxy: dict[str, httpx2.HTTPTransport] = {}

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            proxy = find_proxy(urlsplit(str(request.url)), ("http", "https"))
            address = proxy.geturl() if proxy else ""
            with self._lock:
                if address not in self._by_proxy:
                    transport = httpx2.HTTPTransport(verify=verify, proxy=address or None)
                    self._by_proxy[address] = transport
            return self._by_proxy[address].handle_request(request)

        def close(self) -> None:
            for transport in self._by_proxy.values():
                transport.close()

    return ByProxy()

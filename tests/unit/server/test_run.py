"""The address that a server tells its clients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from g4cli.server.run import make_url


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("192.168.0.2", "http://192.168.0.2:80"),
    ],
)
def test_an_address_of_all_networks_is_told_as_one_of_this_machine(host: str, url: str) -> None:
    listener: Any = SimpleNamespace(getsockname=lambda: (host, 80))
    assert make_url(listener) == url

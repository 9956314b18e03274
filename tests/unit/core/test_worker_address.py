"""Addresses of workers: what --rpc takes, and what must never reach ssh or llama.cpp."""

from __future__ import annotations

import pytest

from g4cli.core.errors import UsageError
from g4cli.core.worker_address import (
    SshTarget,
    WorkerAddress,
    parse_tensor_split,
    parse_worker_address,
    parse_worker_addresses,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.168.1.20:50052", WorkerAddress("192.168.1.20", 50052)),
        ("laptop", WorkerAddress("laptop", 50052)),
        ("laptop.local:1", WorkerAddress("laptop.local", 1)),
        ("ssh://me@host", WorkerAddress("127.0.0.1", 50052, SshTarget("host", "me"))),
        ("ssh://host:2222", WorkerAddress("127.0.0.1", 50052, SshTarget("host", "", 2222))),
        ("ssh://me@host:22/6000", WorkerAddress("127.0.0.1", 6000, SshTarget("host", "me", 22))),
    ],
)
def test_addresses_are_read_and_written(text: str, expected: WorkerAddress) -> None:
    assert parse_worker_address(text) == expected
    assert parse_worker_address(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", ":50052", "host:", "host:0", "host:65536", "host:999999", "a b:1", "host:50052:1",
        "-oProxyCommand=id", "ssh://-oProxyCommand=id", "ssh://-l@host", "ssh://me@-host",
        "ssh://me@host/x", "ssh://", "http://host:1", "[::1]:50052", "::1", "host/../x", "h\nx:1",
        "ssh://me@ho;st", "$(id):1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_worker_address(text)


def test_an_ipv6_address_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="IPv4"):
        parse_worker_address("fe80::1")


def test_names_are_such_that_a_resolver_takes_them() -> None:
    longest = ".".join(["x" * 63] * 3 + ["y" * 61])
    assert parse_worker_addresses(longest)[0].host == longest
    for host in ("a..b", "a.", "x" * 64, f"{longest}y", "a.-b"):
        with pytest.raises(UsageError):
            parse_worker_addresses(host)


def test_lists_have_limits() -> None:
    assert parse_worker_addresses("") == ()
    assert len(parse_worker_addresses("a:1, b:2")) == 2
    with pytest.raises(UsageError, match="at most 16"):
        parse_worker_addresses(",".join(f"h{i}" for i in range(17)))
    with pytest.raises(UsageError, match="twice"):
        parse_worker_addresses("a,a:50052")


def test_proportions() -> None:
    assert parse_tensor_split("") == ()
    assert parse_tensor_split("3,1") == (3.0, 1.0)
    assert parse_tensor_split("0,1.5") == (0.0, 1.5)
    for text in ("x", "1,,2", "-1,2", "0,0", "nan", "inf", "1e300"):
        with pytest.raises(UsageError):
            parse_tensor_split(text)

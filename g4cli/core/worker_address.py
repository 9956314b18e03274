"""Addresses of workers, as --rpc takes them: HOST:PORT or ssh://USER@HOST[:PORT], with commas."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from g4cli.core.errors import UsageError

WORKER_PORT: Final = 50052
"""The port of llama.cpp's rpc-server, and of `g4 worker`."""

MAX_WORKERS: Final = 16
"""GGML_RPC_MAX_SERVERS, ggml/include/ggml-rpc.h, llama.cpp@0c1e57098."""

_MAX_PART: Final = 1e15  # of --tensor-split, a choice: sums of such numbers stay finite
# Names of hosts and users. None begins with a dash: ssh would take it for an option. Labels have up
# to 63 characters, names 253 (RFC 1035): Python's resolver raises UnicodeError for others.
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = rf"(?![\w.-]{{254}}){_LABEL}(?:\.{_LABEL})*"
_PLAIN: Final = re.compile(rf"(?P<host>{_NAME})(?::(?P<port>\d{{1,5}}))?")
_SSH: Final = re.compile(
    rf"ssh://(?:(?P<user>{_NAME})@)?(?P<host>{_NAME})(?::(?P<ssh_port>\d{{1,5}}))?"
    r"(?:/(?P<port>\d{1,5}))?/?"
)


@dataclass(frozen=True, slots=True)
class SshTarget:
    """Where ssh logs in. `user` "" and `port` 0 leave both to ssh and its configuration."""

    host: str
    user: str = ""
    port: int = 0

    @property
    def destination(self) -> str:
        """Return [USER@]HOST, as ssh takes it."""
        return f"{self.user}@{self.host}" if self.user else self.host


@dataclass(frozen=True, slots=True)
class WorkerAddress:
    """Where a worker listens. With `ssh`, `host` and `port` are as seen from that machine."""

    host: str
    port: int
    ssh: SshTarget | None = None

    def __str__(self) -> str:
        if self.ssh is None:
            return f"{self.host}:{self.port}"
        at = f":{self.ssh.port}" if self.ssh.port else ""
        end = f"/{self.port}" if self.port != WORKER_PORT else ""
        return f"ssh://{self.ssh.destination}{at}{end}"


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The values of --rpc and --tensor-split: no worker, and by free memory, if they are empty."""

    addresses: tuple[WorkerAddress, ...] = ()
    tensor_split: tuple[float, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The addresses as text, as the engine takes them."""
        return tuple(map(str, self.addresses))

    def __bool__(self) -> bool:
        return bool(self.addresses)


NO_WORKERS: Final = WorkerOptions()


def parse_worker_addresses(text: str) -> tuple[WorkerAddress, ...]:
    """Return the addresses in `text`, separated by commas; none for "". Raises UsageError."""
    addresses = tuple(parse_worker_address(part.strip()) for part in text.split(",") if text)
    if len(addresses) > MAX_WORKERS:
        raise UsageError(
            f"{len(addresses)} workers; llama.cpp supports at most {MAX_WORKERS}",
            hint="--rpc HOST:PORT,HOST:PORT",
        )
    if len(set(addresses)) < len(addresses):
        raise UsageError("--rpc names a worker twice", hint="--rpc HOST:PORT,HOST:PORT")
    return addresses


def parse_worker_address(text: str) -> WorkerAddress:
    """Return the address HOST[:PORT] or ssh://[USER@]HOST[:SSH_PORT][/PORT].

    Raises UsageError, for an IPv6 address too: llama.cpp connects by IPv4 alone (socket_t::connect,
    ggml/src/ggml-rpc/transport.cpp, llama.cpp@0c1e57098).
    """
    tunnel = _SSH.fullmatch(text)
    match = tunnel or _PLAIN.fullmatch(text)
    if match is None:
        what = f"not the address of a worker: {text!r:.100}"
        if text.count(":") > 1 and "://" not in text:
            what += " (llama.cpp connects to workers by IPv4)"
        raise UsageError(what, hint="--rpc 192.168.1.20:50052, or --rpc ssh://USER@HOST")
    port = _parse_port(match["port"], text) or WORKER_PORT
    if tunnel is None:
        return WorkerAddress(match["host"], port)
    ssh = SshTarget(match["host"], match["user"] or "", _parse_port(match["ssh_port"], text))
    return WorkerAddress("127.0.0.1", port, ssh)


def _parse_port(digits: str | None, text: str) -> int:
    """Return a port, 0 if none was given. Raises UsageError."""
    if digits is None:
        return 0
    if not 1 <= int(digits) <= 65535:
        raise UsageError(f"{text!r:.100}: no port has the number {digits}", hint="--rpc HOST:50052")
    return int(digits)


def parse_tensor_split(text: str) -> tuple[float, ...]:
    """Return the numbers of --tensor-split: "3,1"; none for "". Raises UsageError."""
    try:
        split = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        split = (-1.0,)
    if any(not 0 <= part < _MAX_PART for part in split) or (split and not any(split)):
        raise UsageError(f"not proportions: {text!r:.100}", hint="--tensor-split 3,1")
    return split

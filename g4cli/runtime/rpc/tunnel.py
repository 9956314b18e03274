"""A tunnel to a worker on another machine, by the system's ssh.

ssh forwards a free port of this machine to the port of the worker, which listens on the other
machine's loopback address alone. On that machine ssh runs `cat`, whose input is a pipe from here:
when this process ends, however it ends, the pipe closes, `cat` ends, and the tunnel with it. The
shell prints `_OPEN_MARK` before it starts `cat`: by then the tunnel is open.

ssh never asks here (BatchMode): it needs a key, and a host that it knows.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from g4cli.core.errors import NetworkError
from g4cli.core.quoting import shell_command
from g4cli.core.visible import one_line
from g4cli.core.worker_address import SshTarget, WorkerAddress

_OPEN_MARK: Final = b"g4-tunnel-open"
_REMOTE_COMMAND: Final = f"echo {_OPEN_MARK.decode()} && exec cat >/dev/null"
OPEN_TIMEOUT_S: Final = 20.0  # a choice: 10 s to connect (below), and as long for the login
_MAX_LOGIN_BYTES: Final = 1 << 16  # a choice: of what a login prints before the command
_SSH_OPTIONS: Final = (
    "BatchMode=yes",
    "ControlPath=none",  # a shared connection would keep the forwarded port open after the tunnel
    "ExitOnForwardFailure=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=10",  # a network that fails ends the tunnel after half a minute
    "ServerAliveCountMax=3",
)


class Tunnel:
    """An open tunnel: what connects to `port` of this machine reaches the worker."""

    def __init__(self, target: SshTarget, worker_port: int) -> None:
        """Open a tunnel to `worker_port` on the loopback address of `target`.

        Raises NetworkError.
        """
        self._target = target
        self.port = find_free_port()
        try:
            self._process = subprocess.Popen(
                make_ssh_command(target, self.port, worker_port),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as err:
            raise NetworkError(
                f"ssh cannot be started: {err.strerror or err}",
                hint="install OpenSSH's client (apt install openssh-client)",
            ) from err
        try:
            self._wait_until_open()
        except BaseException:
            self.close()
            raise

    def _wait_until_open(self) -> None:
        assert self._process.stdout is not None
        out, said = self._process.stdout.fileno(), b""
        deadline = time.monotonic() + OPEN_TIMEOUT_S
        while _OPEN_MARK not in said:
            left = deadline - time.monotonic()
            ready = select.select([out], [], [], max(0.0, left))[0]
            piece = os.read(out, 4096) if ready else b""
            if not ready:
                raise self._make_error(f"no answer in {OPEN_TIMEOUT_S:.0f} s")
            if not piece:
                raise self._make_error(self._read_last_error())
            if len(said) > _MAX_LOGIN_BYTES:
                raise self._make_error("the login prints too much")
            said += piece

    def _read_last_error(self) -> str:
        self._process.kill()
        assert self._process.stderr is not None
        lines = self._process.stderr.read(_MAX_LOGIN_BYTES).decode("utf-8", "replace").splitlines()
        return one_line(lines[-1].strip())[:200] if lines else "ssh ended without a word"

    def _make_error(self, why: str) -> NetworkError:
        port = ("-p", str(self._target.port)) if self._target.port else ()
        return NetworkError(
            f"no tunnel to {self._target.destination}: {why}",
            hint=f"{shell_command('ssh', *port, self._target.destination)} has to log in without a "
            "question (ssh-copy-id, ssh-agent)",
        )

    @property
    def has_ended(self) -> bool:
        """Return whether ssh has ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End the tunnel."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def make_ssh_command(target: SshTarget, port: int, worker_port: int) -> list[str]:
    """Return the command that forwards `port` of this machine to `worker_port` of `target`."""
    options = [word for option in _SSH_OPTIONS for word in ("-o", option)]
    login = ["-p", str(target.port)] if target.port else []
    forward = f"127.0.0.1:{port}:127.0.0.1:{worker_port}"
    return ["ssh", "-T", *options, *login, "-L", forward, "--", target.destination, _REMOTE_COMMAND]


class WorkerEndpoint(NamedTuple):
    """A worker, and the host and port to connect to for it: those of a tunnel if it has one."""

    worker: WorkerAddress
    host: str
    port: int


def find_free_port() -> int:
    """Return a port of the loopback address at which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def open_tunnels(addresses: Sequence[WorkerAddress]) -> Iterator[list[WorkerEndpoint]]:
    """Yield where to connect to for each of `addresses`; tunnels end with the block.

    Raises NetworkError.
    """
    with contextlib.ExitStack() as stack:
        found = []
        for address in addresses:
            host, port = address.host, address.port
            if address.ssh is not None:
                tunnel = Tunnel(address.ssh, port)
                stack.callback(tunnel.close)
                host, port = "127.0.0.1", tunnel.port
            found.append(WorkerEndpoint(address, host, port))
        yield found

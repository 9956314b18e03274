"""Whoever answers at the address of a worker is checked before llama.cpp connects to it."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest

from g4cli.core.errors import G4Error, NetworkError, RuntimeFailed, UsageError
from g4cli.core.worker_address import parse_worker_address
from g4cli.host import engine_version
from g4cli.operations.workers import ask_worker_memories
from g4cli.runtime.llama import rpc
from g4cli.runtime.rpc import keepalive
from g4cli.runtime.rpc.protocol import PROTOCOL, DeviceMemory
from g4cli.runtime.rpc.relay import Relay
from g4cli.runtime.rpc.workers import (
    QUESTION,
    WorkerInfo,
    ask_worker_info,
    check_worker,
    pack_info,
    parse_info,
)
from tests.support.fakes.rpc_server import FakeRpc, fake_rpc

GIB = 1 << 30
INFO = WorkerInfo("1.0", engine_version() or "", PROTOCOL, False, ("cpu",), 3 * GIB)


def check(server: FakeRpc, timeout_s: float = 5.0) -> tuple[DeviceMemory, ...]:
    with fake_rpc(server) as port:
        address = parse_worker_address(f"127.0.0.1:{port}")
        return check_worker(address, "127.0.0.1", port, timeout_s)


def fault(server: FakeRpc, timeout_s: float = 5.0) -> G4Error:
    with pytest.raises(G4Error) as caught:
        check(server, timeout_s)
    return caught.value


def test_the_memory_of_a_server() -> None:
    memory = ((1 * GIB, 2 * GIB), (3 * GIB, 4 * GIB))
    assert check(FakeRpc(memory=memory)) == tuple(DeviceMemory(*pair) for pair in memory)


def test_of_a_cpu_counts_what_is_really_free() -> None:
    """llama.cpp reports all of a CPU's memory as free."""
    full = ((16 * GIB, 16 * GIB),)
    assert check(FakeRpc(memory=full, info=pack_info(INFO))) == (DeviceMemory(3 * GIB, 16 * GIB),)
    gpu = pack_info(replace(INFO, kinds=("gpu",)))
    assert check(FakeRpc(memory=full, info=gpu)) == (DeviceMemory(16 * GIB, 16 * GIB),)


def test_a_question_may_come_in_pieces() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = Relay(listener, ("127.0.0.1", 1), lambda _: INFO, lambda *_: None)
        threading.Thread(target=relay.serve, daemon=True).start()
        with socket.create_connection(listener.getsockname()[:2], timeout=20) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in (QUESTION[:3], QUESTION[3:]):
                client.sendall(piece)
                time.sleep(0.1)
            assert parse_info(client.recv(1 << 14)[4:]) == INFO


def test_devices_are_numbered_over_all_workers() -> None:
    two = FakeRpc(memory=((GIB, GIB), (2 * GIB, 2 * GIB)))
    with fake_rpc(two) as first, fake_rpc(FakeRpc()) as second:
        workers = [parse_worker_address(f"127.0.0.1:{port}") for port in (first, second)]
        memories = ask_worker_memories(workers)
    assert [(m.name, m.place) for m in memories] == [
        ("RPC0", f"127.0.0.1:{first}"),
        ("RPC1", f"127.0.0.1:{first}"),
        ("RPC2", f"127.0.0.1:{second}"),
    ]


@pytest.mark.parametrize("version", [(6, 0, 0), (7, 1, 0), (7, 0, 1), (255, 255, 255)])
def test_another_protocol(version: tuple[int, int, int]) -> None:
    found = fault(FakeRpc(version=version))
    assert isinstance(found, RuntimeFailed)
    assert ".".join(map(str, version)) in found.message
    assert "both need the same build" in found.message


def test_another_build() -> None:
    found = fault(FakeRpc(info=pack_info(replace(INFO, library="0.3.99"))))
    assert "0.3.99" in found.message
    assert found.exit_code == 7


def test_a_worker_that_is_busy() -> None:
    found = fault(FakeRpc(info=pack_info(replace(INFO, is_busy=True))))
    assert "serves another client" in found.message


def test_no_answer_in_time() -> None:
    found = fault(FakeRpc(silent=True), 0.3)
    assert isinstance(found, NetworkError)
    assert "no answer" in found.message


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address = parse_worker_address(f"127.0.0.1:{port}")
    with pytest.raises(NetworkError, match="no connection"):
        check_worker(address, "127.0.0.1", port)


def test_no_such_name() -> None:
    address = parse_worker_address("no-such-machine.invalid")
    with pytest.raises(NetworkError, match="no connection"):
        check_worker(address, address.host, address.port)


@pytest.mark.parametrize(
    "server",
    [
        FakeRpc(hello=b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        FakeRpc(hello=b"SSH-2.0-OpenSSH_9.9\r\n"),
        FakeRpc(hello=struct.pack("<Q", 1 << 62)),
        FakeRpc(hello=struct.pack("<Q", 3) + b"abc"),
        FakeRpc(memory=()),
        FakeRpc(counts=struct.pack("<QI", 4, 1 << 31)),
        FakeRpc(counts=struct.pack("<Q", 0xFFFFFFFFFFFFFFFF)),
        FakeRpc(memory=((1 << 63, 1 << 63),)),
        FakeRpc(memory=((2, 1),)),
    ],
)
def test_what_is_no_worker(server: FakeRpc) -> None:
    found = fault(server)
    assert "is not a worker" in found.message
    assert found.exit_code == 7


def test_a_server_that_hangs_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        port = listener.getsockname()[1]
        with pytest.raises(G4Error):
            check_worker(parse_worker_address(f"127.0.0.1:{port}"), "127.0.0.1", port)


def test_answers_to_the_question_are_checked() -> None:
    assert parse_info(pack_info(INFO)[4:]) == INFO
    good = {**asdict(INFO)}
    for change in (
        {"library": 3}, {"protocol": [7]}, {"protocol": 7}, {"is_busy": "no"}, {"kinds": [1]},
        {"available_bytes": "1"}, {"available_bytes": True}, {"g4": None},
    ):  # fmt: skip
        assert parse_info(json.dumps({**good, **change}).encode()) is None
    for data in (b"", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000):
        assert parse_info(data) is None


@pytest.mark.parametrize(
    "answer", [struct.pack("<I", 1 << 31), struct.pack("<I", 0), b"\1", struct.pack("<I", 5) + b"{"]
)
def test_an_answer_that_is_none_leaves_the_protocol_to_judge(answer: bytes) -> None:
    with fake_rpc(FakeRpc(info=answer)) as port:
        assert ask_worker_info("127.0.0.1", port, 5.0) is None


class Clients:
    """A relay before a server that only counts; what it told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        target = self.server.getsockname()[:2]
        self.relay = Relay(
            self.listener,
            target,
            lambda is_busy: replace(INFO, is_busy=is_busy),
            lambda *event: self.told.append(event),
        )
        self.thread = threading.Thread(target=self.relay.serve, daemon=True)
        self.thread.start()

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        client.sendall(bytes([14]))
        return client


def test_one_client_at_a_time() -> None:
    clients = Clients()
    with clients.listener, clients.server:
        first = clients.connect()
        served, _ = clients.server.accept()
        served.settimeout(20)
        assert served.recv(1) == bytes([14])
        info = ask_worker_info("127.0.0.1", clients.port, 5.0)
        assert info is not None
        assert info.is_busy
        with suppress(ConnectionError), clients.connect() as second:
            assert second.recv(1) == b""  # refused: closed without an answer
        assert ("refused", "127.0.0.1") in clients.told
        first.sendall(b"x" * 3_000_000)
        got = 0
        while got < 3_000_000:
            got += len(served.recv(1 << 20))
        served.sendall(b"yes")
        assert first.recv(3, socket.MSG_WAITALL) == b"yes"
        first.close()
        assert served.recv(1) == b""
        served.close()
        with clients.connect() as third:  # the next one is served
            served, _ = clients.server.accept()
            served.settimeout(20)
            assert served.recv(1) == bytes([14])
            served.close()
            assert third.recv(1) == b""
        end = time.monotonic() + 60
        while (after := ask_worker_info("127.0.0.1", clients.port, 5.0)) and after.is_busy:
            assert time.monotonic() < end  # its end is noticed by a thread
        assert after is not None


def test_a_client_that_has_just_left_does_not_make_the_worker_busy() -> None:
    clients = Clients()
    with clients.listener, clients.server:
        first = clients.connect()
        served, _ = clients.server.accept()
        first.close()
        threading.Timer(0.3, served.close).start()  # llama.cpp's server notices it later
        info = ask_worker_info("127.0.0.1", clients.port, 5.0)
        assert info is not None
        assert not info.is_busy


def test_a_relay_that_is_closed_ends() -> None:
    clients = Clients()
    with clients.server:
        assert ask_worker_info("127.0.0.1", clients.port, 5.0) is not None
        clients.relay.close()
        clients.thread.join(20)
        assert not clients.thread.is_alive()


def test_a_client_that_is_lost_at_once_is_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")  # macOS, if the connection was reset

    monkeypatch.setattr("g4cli.runtime.rpc.relay.detect_dead_peer", fail)
    monkeypatch.setattr("g4cli.runtime.rpc.relay.TELL_AFTER_S", 0.0)
    clients = Clients()
    with clients.listener, clients.server:
        with suppress(ConnectionError), clients.connect() as first:
            assert first.recv(1) == b""
        info = ask_worker_info("127.0.0.1", clients.port, 5.0)
        assert info is not None
        assert not info.is_busy
        assert clients.told == []


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\0", b"SSH-2.0\r\n", b"G4WORKEX"])
def test_other_protocols_do_not_reach_the_server(data: bytes) -> None:
    clients = Clients()
    with clients.listener, clients.server:
        with socket.create_connection(("127.0.0.1", clients.port), timeout=20) as client:
            client.sendall(data)
            with suppress(ConnectionError):
                assert client.recv(1) == b""
        clients.server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            clients.server.accept()
    assert QUESTION not in data


@pytest.mark.requires_linux
def test_dead_peers_are_looked_for_on_connections_that_llama_cpp_opened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
            assert keepalive.watch_connections_to(port) == 1
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            assert idle == keepalive.IDLE_S
            client.sendall(b"it still works")
        assert keepalive.watch_connections_to(port) == 0


def test_one_worker_by_two_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "require_rpc", lambda: None)
    monkeypatch.setattr(rpc, "REGISTERED", {})
    # llama.cpp returns the same registry for the same address.
    monkeypatch.setattr(rpc, "register_worker", lambda address: (address.port,))
    assert rpc.register_workers(("localhost:1", "127.0.0.1:2")) == (1, 2)
    with pytest.raises(UsageError, match="names a worker twice"):
        rpc.register_workers(("localhost:1", "127.0.0.1:1"))


def test_a_cache_folder_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    ggml = SimpleNamespace(ggml_backend_dev_by_name=lambda _: 1)
    monkeypatch.setattr(rpc, "require_rpc", lambda: None)
    monkeypatch.setattr(rpc, "load_rpc", lambda: ggml)
    monkeypatch.setattr(rpc, "find_function", lambda *_: 0)
    monkeypatch.setattr(rpc, "START_SERVER", lambda _: lambda *given: started.append(given))
    rpc.serve_devices(["CPU"], "127.0.0.1", 1, 1, os.fsdecode(b"/\xff/x"))
    assert started[0][1] == b"/\xff/x"

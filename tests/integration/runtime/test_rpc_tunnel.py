"""Tunnels to workers: what ssh is told, that it ends with g4, and what its failures become.

`ssh` is a program of the test's own, or OpenSSH with a server of the test's own.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from g4cli.core.errors import NetworkError
from g4cli.core.worker_address import SshTarget, parse_worker_address
from g4cli.runtime.rpc import tunnel
from g4cli.runtime.rpc.tunnel import Tunnel, make_ssh_command, open_tunnels
from tests.support.fakes.rpc_server import FakeRpc, fake_rpc
from tests.support.run.process import wait_until_gone

# Does what ssh does with -L and a command: listens, passes bytes on, says what the command says,
# and ends when its standard input does.
FAKE_SSH = """
import os, socket, sys, threading
arguments = sys.argv[1:]
with open(os.environ["G4_TEST_SSH_LOG"], "a") as log:
    log.write(repr((os.getpid(), arguments)) + "\\n")
if "-p" in arguments and arguments[arguments.index("-p") + 1] == "2299":
    sys.exit("me@host: Permission denied (publickey).")
here, port, there, target = arguments[arguments.index("-L") + 1].split(":")
listener = socket.create_server((here, int(port)))
def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
def serve():
    while True:
        client, _ = listener.accept()
        server = socket.create_connection((there, int(target)))
        threading.Thread(target=copy, args=(client, server), daemon=True).start()
        threading.Thread(target=copy, args=(server, client), daemon=True).start()
threading.Thread(target=serve, daemon=True).start()
print("Welcome to host!\\ng4-tunnel-open", flush=True)
sys.stdin.buffer.read()
"""


@pytest.fixture
def ssh_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program called ssh first on the PATH; return the file that it writes to."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{textwrap.dedent(FAKE_SSH)}")
    program.chmod(0o755)
    log = tmp_path / "ssh.log"
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("G4_TEST_SSH_LOG", str(log))
    return log


def test_what_ssh_is_told() -> None:
    command = make_ssh_command(SshTarget("host", "me", 2222), 40000, 50052)
    assert command[0] == "ssh"
    assert command[command.index("-L") + 1] == "127.0.0.1:40000:127.0.0.1:50052"
    assert command[command.index("-p") + 1] == "2222"
    assert {"BatchMode=yes", "ControlPath=none", "ExitOnForwardFailure=yes"} < set(command)
    assert command[-3:-1] == ["--", "me@host"]
    assert "-p" not in make_ssh_command(SshTarget("host"), 1, 2)


def test_a_worker_behind_a_tunnel_is_asked(ssh_log: Path) -> None:
    with fake_rpc(FakeRpc(memory=((5, 7),))) as port:
        address = parse_worker_address(f"ssh://me@host/{port}")
        from g4cli.operations.workers import ask_worker_memories

        (memory,) = ask_worker_memories([address])
    assert (memory.available_bytes, memory.total_bytes) == (5, 7)
    assert memory.place == f"ssh://me@host/{port}"
    pid = int(ssh_log.read_text().split(",")[0].strip("("))
    wait_until_gone(pid)


def test_a_tunnel_ends_with_the_process_that_opened_it(ssh_log: Path) -> None:
    """Even if that is killed: ssh's standard input ends then."""
    code = (
        "import time\n"
        "from g4cli.core.worker_address import SshTarget\n"
        "from g4cli.runtime.rpc.tunnel import Tunnel\n"
        "tunnel = Tunnel(SshTarget('host', 'me'), 50052)\n"
        "print(tunnel.port, flush=True)\n"
        "time.sleep(300)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        port = int(owner.stdout.readline())
        pid = int(ssh_log.read_text().split(",")[0].strip("("))
        socket.create_connection(("127.0.0.1", port), timeout=20).close()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        wait_until_gone(pid)


def test_a_login_that_fails_says_why(ssh_log: Path) -> None:
    with pytest.raises(NetworkError, match="Permission denied") as caught:
        Tunnel(SshTarget("host", "me", 2299), 50052)
    assert caught.value.exit_code == 6
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("ssh -p 2299 me@host has to log in without a question")
    assert ssh_log.exists()


def test_without_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NetworkError, match="ssh cannot be started"):
        Tunnel(SshTarget("host"), 50052)


def test_a_host_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\nexec sleep 300\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(tunnel, "OPEN_TIMEOUT_S", 0.3)
    with pytest.raises(NetworkError, match="no answer in"):
        Tunnel(SshTarget("host"), 50052)


def test_a_login_that_prints_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\nexec yes\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(NetworkError, match="the login prints too much"):
        Tunnel(SshTarget("host"), 50052)


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Run OpenSSH's server on the loopback address; yield its port. A key logs in to it."""
    for name in ("host_key", "id_test"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True
        )
    (tmp_path / "authorized").write_bytes((tmp_path / "id_test.pub").read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    config = tmp_path / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host_key\n"
        f"AuthorizedKeysFile {tmp_path}/authorized\nStrictModes no\nUsePAM no\n"
        f"PidFile none\nPasswordAuthentication no\n"
    )
    known = tmp_path / "known_hosts"
    key = (tmp_path / "host_key.pub").read_text().split()[:2]
    known.write_text(f"[127.0.0.1]:{port} {' '.join(key)}\n")
    # ssh reads the user's own settings: here they are options of a program before it.
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\nexec {shutil.which('ssh')} -F none -i {tmp_path}/id_test "
        f'-o UserKnownHostsFile={known} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", config], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                assert process.poll() is None, process.stderr and process.stderr.read()
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.communicate()


@pytest.mark.requires_sshd
def test_openssh_opens_the_tunnel(sshd: int) -> None:
    with fake_rpc(FakeRpc(memory=((5, 7),))) as port:
        address = parse_worker_address(f"ssh://{getpass.getuser()}@127.0.0.1:{sshd}/{port}")
        with open_tunnels([address]) as ((_, host, local),):
            from g4cli.runtime.rpc.workers import check_worker

            (memory,) = check_worker(address, host, local)
            assert memory.total_bytes == 7
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", local), timeout=5)


@pytest.mark.requires_sshd
def test_openssh_refuses_a_host_that_it_does_not_know(sshd: int, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("")
    with pytest.raises(NetworkError, match="Host key verification failed"):
        Tunnel(SshTarget("127.0.0.1", getpass.getuser(), sshd), 50052)

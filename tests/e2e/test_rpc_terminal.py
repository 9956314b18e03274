"""A conversation whose worker is killed: the error, what is kept, and /retry."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.rpc_server import running_worker
from tests.support.run.command import g4
from tests.support.run.g4_process import PROGRAM
from tests.support.run.terminal import Terminal


@pytest.mark.requires_rpc
def test_retry_works_when_the_worker_is_back(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(build_tiny())
    environment = {"G4_HOME": str(tmp_path), "NO_COLOR": "1", "COLUMNS": "80"}
    with running_worker() as worker:
        command = [sys.executable, "-c", PROGRAM, "chat", str(path), "--temp", "0"]
        with Terminal([*command, "--rpc", worker.address], environment) as terminal:
            terminal.wait_for("/help")
            terminal.enter("What is GGUF?")
            terminal.wait_for("of a model.")
            worker.kill()
            terminal.enter("What is Q4_0?")
            terminal.wait_for("error: the connection to a worker of --rpc broke")
            terminal.wait_for("the conversation is kept")
            terminal.enter("/retry")
            terminal.wait_for("error: no connection to the worker")
            terminal.wait_for("the conversation is kept", count=2)
            with running_worker(port=worker.port):
                terminal.enter("/retry")
                terminal.wait_for("which makes 4.5 bits per weight.")
                terminal.enter("/exit")
                assert terminal.wait_end() == 0


@pytest.mark.requires_rpc
def test_eval_on_a_worker_is_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its documents may be longer than the context of a small model."""
    path, text = tmp_path / "tiny.gguf", tmp_path / "text.txt"
    path.write_bytes(build_tiny())
    text.write_text("GGUF is the file format of llama.cpp.\n")
    with running_worker() as worker:
        there = g4(capsys, "eval", path, "--text", text, "-q", "--rpc", worker.address)
    here = g4(capsys, "eval", path, "--text", text, "-q")
    assert (there[0], here[0]) == (0, 0)
    assert there[1] == here[1]


@pytest.mark.requires_rpc
def test_fit_asks_the_worker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(build_tiny())
    with running_worker() as worker:
        code, out, _ = g4(capsys, "fit", path, "--rpc", worker.address)
    assert code == 0
    assert f"of 11 layers, the output among them: 11 on {worker.address} (RPC0)" in out
    assert "Network: " in out
    assert "1 round trip for each token" in " ".join(out.split())

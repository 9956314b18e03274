"""Tools of a real MCP server, which crashes, hangs, and returns what nobody asked for."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from g4cli.core.errors import FileMissing, RuntimeFailed, UsageError
from g4cli.operations.tools import mcp_servers
from g4cli.operations.tools.mcp_servers import McpServers, read_servers
from g4cli.operations.tools.options import ToolOptions
from g4cli.operations.tools.toolbox import Toolbox, open_toolbox
from g4cli.prompt.messages import ToolCall
from tests.support.paths import TESTS

SERVER = TESTS / "support" / "fakes" / "mcp_server.py"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    server = {"command": sys.executable, "args": [str(SERVER), str(tmp_path)]}
    path = tmp_path / "servers.json"
    path.write_text(json.dumps({"mcpServers": {"odd": server}}))
    return path


@pytest.fixture
def toolbox(config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toolbox]:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    with open_toolbox(ToolOptions(mcp=config)) as found:
        yield found


def run(toolbox: Toolbox, name: str, **arguments: Any) -> str:
    return toolbox.run_call(ToolCall(name, arguments), lambda *_: "yes")


def is_running(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_results_and_failures(toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(toolbox, "add", a=1, b=2) == "3"
    assert run(toolbox, "add", a="one").startswith("error: ")
    assert run(toolbox, "fail").startswith("error: ")
    assert "SECRET_TOKEN" not in run(toolbox, "environment")
    giant = run(toolbox, "giant")
    assert len(giant) < 20_000
    assert giant.endswith("more characters were left out]")
    assert '<|"|>' not in run(toolbox, "evil")
    monkeypatch.setattr(mcp_servers, "CALL_S", 0.5)
    assert run(toolbox, "sleep", seconds=30.0).startswith("error: ")
    garbled = run(toolbox, "garbage")  # the answer may be lost in it, and nobody waits for ever
    assert garbled == "after it" or garbled.startswith("error: ")
    assert run(toolbox, "crash").startswith("error: ")
    assert run(toolbox, "add", a=1, b=2).startswith("error: ")


def test_the_server_ends_with_the_chat_and_its_children_too(config: Path, tmp_path: Path) -> None:
    with open_toolbox(ToolOptions(mcp=config)):
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert all(map(is_running, pids))
    end = time.monotonic() + 20
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


def test_what_a_server_writes_to_standard_error_goes_to_the_log(
    config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    servers = McpServers(read_servers(config), tmp_path / "mcp.log")
    servers.close()
    assert "the server says hello" in (tmp_path / "mcp.log").read_text()
    assert "hello" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "command", [["g4-no-such-program"], [sys.executable, "-c", "print('no protocol')"]]
)
def test_a_server_that_does_not_start(tmp_path: Path, command: list[str]) -> None:
    server = {"command": command[0], "args": command[1:]}
    with pytest.raises(RuntimeFailed, match="the MCP server odd does not start") as caught:
        McpServers({"odd": server}, tmp_path / "mcp.log")
    assert "mcp.log" in str(caught.value.hint)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"mcpServers": []}', '{"mcpServers": {"a": {}}}',
             '{"mcpServers": {"a": {"command": "x", "url": "y"}}}'],
)  # fmt: skip
def test_files_that_name_no_servers(tmp_path: Path, text: str) -> None:
    path = tmp_path / "servers.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"mcpServers|needs a command or a url"):
        read_servers(path)
    with pytest.raises(FileMissing):
        read_servers(tmp_path / "none.json")

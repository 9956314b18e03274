"""Tools of a real MCP server, which crashes, hangs, and returns what nobody asked for."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
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
from g4cli.prompt.answer_grammar import make_call_grammar
from g4cli.prompt.messages import ToolCall
from tests.conftest import MCP_CONFORMANCE, MCP_PACKAGES, NODE_22
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


@pytest.mark.slow
def test_results_and_failures(toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(toolbox, "add", a=1, b=2) == "3"
    assert run(toolbox, "add", a="one").startswith("error: ")
    assert run(toolbox, "fail").startswith("error: ")
    assert "SECRET_TOKEN" not in run(toolbox, "environment")
    giant = run(toolbox, "giant")
    assert len(giant) < 20_000
    assert giant.endswith("more characters were left out]")
    assert '<|"|>' not in run(toolbox, "evil")
    assert "Elicitation not supported" in run(toolbox, "ask")  # and it waits for nobody
    monkeypatch.setattr(mcp_servers, "CALL_S", 0.5)
    assert run(toolbox, "sleep", seconds=30.0).startswith("error: ")
    monkeypatch.setattr(mcp_servers, "CALL_S", 60.0)
    assert run(toolbox, "garbage") == "after it"
    assert run(toolbox, "crash").startswith("error: ")
    assert run(toolbox, "add", a=1, b=2).startswith("error: ")


@pytest.mark.slow
def test_the_server_ends_with_the_chat_and_its_children_too(config: Path, tmp_path: Path) -> None:
    with open_toolbox(ToolOptions(mcp=config)):
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert all(map(is_running, pids))
    end = time.monotonic() + 20
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


@pytest.mark.slow
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


def test_a_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_servers, "START_S", 0.3)
    server = {"command": sys.executable, "args": ["-c", "import sys; sys.stdin.read()"]}
    with pytest.raises(
        RuntimeFailed, match="the MCP server slow does not start: no answer in time"
    ):
        McpServers({"slow": server}, tmp_path / "mcp.log")


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


@pytest.mark.slow
def test_tools_are_listed_page_by_page(tmp_path: Path) -> None:
    fake = str(TESTS / "support" / "fakes" / "paged_mcp_server.py")
    servers = McpServers({"p": {"command": sys.executable, "args": [fake, "3"]}}, tmp_path / "log")
    try:
        assert [tool.name for tool in servers.tools] == [f"tool_{n}" for n in range(6)]
        assert servers.tools[5].run({}) == "tool_5\nnotes: file:///notes.txt"
    finally:
        servers.close()
    with pytest.raises(RuntimeFailed, match="it has more than 200 tools"):
        McpServers({"p": {"command": sys.executable, "args": [fake, "101"]}}, tmp_path / "log")


@pytest.fixture
def http_server(tmp_path: Path) -> Iterator[str]:
    """Return the URL of a server that speaks streamable HTTP."""
    with subprocess.Popen([sys.executable, str(SERVER), str(tmp_path), "http"]) as process:
        try:
            end = time.monotonic() + 60
            while not (tmp_path / "port").exists():
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.02)
            yield f"http://127.0.0.1:{(tmp_path / 'port').read_text()}/mcp"
        finally:
            process.kill()


@pytest.mark.slow
def test_a_server_at_a_url(
    http_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = {"remote": {"url": http_server, "headers": {"X-Key": "open"}}}
    config = tmp_path / "servers.json"
    config.write_text(json.dumps({"mcpServers": servers}))
    with open_toolbox(ToolOptions(mcp=config)) as toolbox:
        assert toolbox.tools["add"].source == "MCP server remote"
        assert run(toolbox, "add", a=1, b=2) == "3"
        assert run(toolbox, "fail").startswith("error: ")
        assert run(toolbox, "giant").startswith("error: ")  # the package takes 1 MiB at most
        assert '<|"|>' not in run(toolbox, "evil")
        monkeypatch.setattr(mcp_servers, "CALL_S", 0.5)
        assert run(toolbox, "sleep", seconds=3.0).startswith("error: ")
        monkeypatch.setattr(mcp_servers, "CALL_S", 60.0)
        assert run(toolbox, "add", a=2, b=2) == "4"
        monkeypatch.setattr(mcp_servers, "CALL_S", 2.0)
        assert run(toolbox, "crash").startswith("error: ")
        assert run(toolbox, "add", a=1, b=2).startswith("error: ")


@pytest.mark.slow
def test_a_url_that_answers_no_protocol(http_server: str, tmp_path: Path) -> None:
    key = {"headers": {"X-Key": "open"}}
    for server in ({"url": f"{http_server}/none", **key}, {"url": "no url"}):
        with pytest.raises(RuntimeFailed, match="the MCP server remote does not start: "):
            McpServers({"remote": server}, tmp_path / "mcp.log")


def test_a_url_that_wants_a_login(http_server: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed, match=r"it wants a login \(HTTP 401\)") as caught:
        McpServers({"remote": {"url": http_server}}, tmp_path / "mcp.log")
    assert "Authorization" in str(caught.value.hint)


@pytest.mark.requires_mcp_servers
def test_reference_servers(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("hello")
    command = {name: {"command": "node", "args": [str(MCP_PACKAGES / f"server-{name}" / "dist" /
               "index.js")]} for name in ("everything", "filesystem", "memory")}  # fmt: skip
    command["filesystem"]["args"].append(str(tmp_path / "notes"))
    command["memory"]["env"] = {"MEMORY_FILE_PATH": str(tmp_path / "memory.json")}
    (tmp_path / "servers.json").write_text(json.dumps({"mcpServers": command}))
    warnings: list[str] = []
    with open_toolbox(ToolOptions(mcp=tmp_path / "servers.json"), warnings.append) as toolbox:
        make_call_grammar(toolbox.declarations)  # all of their schemas can be written
        assert run(toolbox, "echo", message="hi") == "Echo: hi"
        assert "[image/png, " in run(toolbox, "get-tiny-image")
        assert "resource" in run(toolbox, "get-resource-links")
        assert "TOKEN" not in run(toolbox, "get-env")
        assert run(toolbox, "read_text_file", path=str(tmp_path / "notes" / "a.txt")) == "hello"
        assert run(toolbox, "read_text_file", path="/etc/passwd").startswith("error: ")
        entity = {"name": "Bern", "entityType": "city", "observations": ["capital"]}
        run(toolbox, "create_entities", entities=[entity])
        assert "capital" in run(toolbox, "read_graph")
    assert warnings == []
    assert "Bern" in (tmp_path / "memory.json").read_text()


@pytest.mark.requires_mcp_conformance
@pytest.mark.parametrize("scenario", ["initialize", "tools_call", "sse-retry"])
def test_conformance(scenario: str, tmp_path: Path) -> None:
    """Not `elicitation`: g4 answers no questions of servers, and says so in the protocol."""
    client = f"{sys.executable} {TESTS / 'support' / 'run' / 'mcp_client.py'}"
    command = [str(NODE_22), str(MCP_CONFORMANCE), "client", "--command", client]
    done = subprocess.run(
        [*command, "--scenario", scenario],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout + done.stderr

"""Tools of MCP servers, by the official package `mcp`, which is imported here alone.

The servers run in an event loop of a thread of their own, from the constructor of `McpServers` to
`close`. The package starts them with a clean environment and ends them with all their children.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, TextIO

from g4cli import __version__
from g4cli.core.errors import RuntimeFailed, UsageError
from g4cli.core.files import require_file
from g4cli.core.paths import expand_home
from g4cli.core.visible import one_line
from g4cli.operations.tools.tool import Tool, ToolFailed, declare_function, open_log

# Choices.
START_S: Final = 60.0
"""Most seconds that a server may take to start, and again to list its tools."""

CALL_S: Final = 120.0
"""Most seconds that a call may take."""

_STOP_S: Final = 10.0  # for the servers to end
_MAX_ERROR_CHARACTERS: Final = 500

# The package gives a server a session of its own, and ends it by closing its standard input. What
# the server started itself must not outlive it: the launcher ends its whole process group.
_LAUNCH: Final = (
    "import os,signal,subprocess,sys;subprocess.call(sys.argv[1:]);os.killpg(0,signal.SIGKILL)"
)
_MAX_TOOLS: Final = 200  # of a server, a choice: their declarations take thousands of tokens
_WANTS_LOGIN: Final = "it wants a login (HTTP 401), and g4 does not log in (OAuth)"
_LOGIN_HINT: Final = '"headers": {"Authorization": "Bearer KEY"} beside its "url"'
_HINT: Final = '{"mcpServers": {"NAME": {"command": "npx", "args": ["-y", "PACKAGE"]}}}'


def read_servers(path: Path) -> dict[str, Mapping[str, Any]]:
    """Return the servers of a file in the form of Claude, Cursor and LM Studio, by name.

    Raises FileMissing or UsageError.
    """
    path = require_file(expand_home(path))
    try:
        data = json.loads(path.read_text(encoding="utf-8", errors="replace"))
        servers = data["mcpServers"]
        items = dict(servers.items())
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{path} holds no mcpServers", hint=_HINT) from None
    for name, server in items.items():
        is_one = isinstance(server, Mapping) and ("command" in server) != ("url" in server)
        if not is_one:
            raise UsageError(f"{path}: the server {name} needs a command or a url", hint=_HINT)
    return items


class McpServers:
    """Running servers. Close them when done."""

    def __init__(self, servers: Mapping[str, Mapping[str, Any]], log: Path) -> None:
        """Start the servers; what they write to standard error goes to the file `log`.

        Raises RuntimeFailed with the name of the one that does not start, or UsageError if the
        package `mcp` is missing.
        """
        try:
            import mcp  # noqa: F401
        except ImportError as err:
            raise UsageError(
                "MCP servers need the Python package mcp", hint="pip install 'g4cli[mcp]'"
            ) from err
        self._log: TextIO = TextIOWrapper(open_log(log), encoding="utf-8", errors="replace")
        self.log_path = log
        self.tools: list[Tool] = []
        self._servers = servers
        self._opening = ""  # the name of the server that is being opened, for errors
        self._want_login: set[str] = set()  # names of servers that answered 401
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # Done when all servers are open, or with the error of the first that does not open.
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run_loop, daemon=True)
        self._thread.start()
        try:
            # A server may take START_S to start, and as long to list its tools.
            self._ready.result(2 * START_S * max(1, len(servers)))
        except concurrent.futures.TimeoutError as err:
            self.close()
            raise self._make_error(err) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the servers."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_STOP_S)
        self._log.close()

    def _run_loop(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as err:  # a task group may end what waits for a server
            if not self._ready.done():
                self._ready.set_exception(self._make_error(err))

    async def _serve(self) -> None:
        """Open the servers one after the other, and wait for `close`."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with AsyncExitStack() as stack:
            for name, server in self._servers.items():
                self._opening = name
                try:
                    await self._open_server(stack, name, server)
                except Exception as err:
                    # The package would wrap an exception that passes through its blocks.
                    self._ready.set_exception(self._make_error(err))
                    return
            self._ready.set_result(None)
            await self._stop.wait()

    def _make_error(self, err: BaseException) -> RuntimeFailed:
        while inner := getattr(err, "exceptions", None):  # of a group
            err = inner[0]
        said = one_line(str(err) or type(err).__name__)[:_MAX_ERROR_CHARACTERS]
        if isinstance(err, (asyncio.TimeoutError, concurrent.futures.TimeoutError)):
            said = "no answer in time"
        hint = f"its messages are in {self.log_path}"
        if self._opening in self._want_login:
            said, hint = _WANTS_LOGIN, _LOGIN_HINT
        return RuntimeFailed(f"the MCP server {self._opening} does not start: {said}", hint=hint)

    async def _open_server(
        self, stack: AsyncExitStack, name: str, server: Mapping[str, Any]
    ) -> None:
        """Start a server or connect to it, and add its tools; the end of `stack` ends it."""
        from mcp import ClientSession, StdioServerParameters
        from mcp.client.stdio import stdio_client
        from mcp.types import Implementation

        if "command" in server:
            command = [str(server["command"]), *map(str, server.get("args") or ())]
            if shutil.which(command[0]) is None:
                raise FileNotFoundError(f"there is no program {command[0]}")
            if os.name == "posix":
                command = [sys.executable, "-I", "-c", _LAUNCH, *command]
            parameters = StdioServerParameters(
                command=command[0],
                args=command[1:],
                env={str(k): str(v) for k, v in dict(server.get("env") or {}).items()} or None,
                cwd=server.get("cwd"),
                encoding_error_handler="replace",  # else one bad byte would end the connection
            )
            transport = stdio_client(parameters, errlog=self._log)
        else:
            transport = await _open_http(stack, server, partial(self._want_login.add, name))
        reading, writing, *_ = await stack.enter_async_context(transport)
        client = Implementation(name="g4", version=__version__)
        session = await stack.enter_async_context(
            ClientSession(reading, writing, client_info=client)
        )
        await asyncio.wait_for(session.initialize(), START_S)
        for item in await asyncio.wait_for(_list_tools(session), START_S):
            declaration = declare_function(item.name, item.description or "", item.input_schema)
            self.tools.append(
                Tool(
                    declaration, f"MCP server {name}", partial(self._call, name, session, item.name)
                )
            )

    def _call(self, server: str, session: Any, name: str, arguments: Mapping[str, Any]) -> str:
        """Return the result of a call as text. Raises ToolFailed."""
        calling: Coroutine[Any, Any, Any] = session.call_tool(
            name, dict(arguments), read_timeout_seconds=CALL_S
        )
        if self._loop is None or not self._thread.is_alive():
            calling.close()
            raise ToolFailed("its server has ended")
        future = asyncio.run_coroutine_threadsafe(calling, self._loop)
        try:
            result = future.result(CALL_S + 5)  # the package itself gives up first
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise ToolFailed(f"it took more than {CALL_S:.0f} seconds") from None
        except Exception as err:
            said = one_line(str(err))[:_MAX_ERROR_CHARACTERS] or type(err).__name__
            said = _WANTS_LOGIN if server in self._want_login else said
            raise ToolFailed(f"its server: {said}") from err
        text = "\n".join(_content_text(item) for item in result.content)
        if result.is_error:
            raise ToolFailed(text or "the server says no more than that it failed")
        return text


async def _list_tools(session: Any) -> list[Any]:
    """Return all tools of a server, page by page. Raises ValueError if there are too many."""
    from mcp.types import PaginatedRequestParams

    page = await session.list_tools()
    found = list(page.tools)
    for _ in range(_MAX_TOOLS):
        if len(found) > _MAX_TOOLS or not page.next_cursor:
            break
        params = PaginatedRequestParams(cursor=page.next_cursor)
        page = await session.list_tools(params=params)
        found += page.tools
    if len(found) > _MAX_TOOLS or page.next_cursor:
        raise ValueError(f"it has more than {_MAX_TOOLS} tools")
    return found


async def _open_http(
    stack: AsyncExitStack, server: Mapping[str, Any], note_login: Callable[[], None]
) -> Any:
    """Return the transport to a URL; `note_login` is called if the server wants a login."""
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    headers = {str(k): str(v) for k, v in dict(server.get("headers") or {}).items()}
    client = await stack.enter_async_context(create_mcp_http_client(headers=headers))

    async def look_at_status(response: Any) -> None:
        # The package tells its caller of an error and not of which one.
        if response.status_code == 401:
            note_login()

    client.event_hooks = {**client.event_hooks, "response": [look_at_status]}
    return streamable_http_client(str(server["url"]), http_client=client)


def _content_text(item: Any) -> str:
    """Return a part of a result as text; what is none is named with its size."""
    if item.type == "text":
        return str(item.text)
    if item.type == "resource_link":
        return f"{item.name}: {item.uri}"
    resource = getattr(item, "resource", item)
    if (text := getattr(resource, "text", None)) is not None:
        return str(text)
    data = str(getattr(resource, "data", None) or getattr(resource, "blob", ""))
    kind = getattr(resource, "mime_type", None) or item.type
    return f"[{kind}, {len(data):,} bytes in base64, left out]"

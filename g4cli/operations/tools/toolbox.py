"""The tools of a chat: found by name, run after consent, and never the end of the chat."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from g4cli.chat import Reply
from g4cli.core.errors import G4Error, LoopStopped, UsageError
from g4cli.core.paths import state_dir
from g4cli.core.units import count_text
from g4cli.operations.tools.options import ToolOptions
from g4cli.operations.tools.tool import Tool, ToolFailed, format_result
from g4cli.prompt.messages import Message, ToolCall
from g4cli.prompt.tools import declare_tool

Consent: TypeAlias = Literal["yes", "no", "always"]
SAME_CALLS: Final = 3
"""So many equal calls in one answer are a loop: a choice, since a failed call may be repeated."""


@dataclass(slots=True)
class Toolbox:
    """Tools by name; `allowed` are the names of those that run without asking the user again.

    `max_rounds`: how many replies in a row may call tools before one has to answer.
    """

    tools: Mapping[str, Tool]
    max_rounds: int = 10
    allowed: set[str] = field(default_factory=set)

    @property
    def declarations(self) -> tuple[Mapping[str, Any], ...]:
        """Return the declarations of all tools, in OpenAI's form."""
        return tuple(tool.declaration for tool in self.tools.values())

    def run_call(self, call: ToolCall, ask: Callable[[ToolCall, Tool], Consent]) -> str:
        """Return the result of a call as the model sees it; a failure is a result too."""
        tool = self.tools.get(call.name)
        if tool is None:
            return f"error: there is no tool {call.name}"
        try:
            with _interruptible():
                return self._run_tool(tool, call, ask)
        except KeyboardInterrupt:
            return "error: the user stopped this call"

    def _run_tool(
        self, tool: Tool, call: ToolCall, ask: Callable[[ToolCall, Tool], Consent]
    ) -> str:
        if call.name not in self.allowed:
            consent = ask(call, tool)
            if consent == "no":
                return "error: the user did not allow this call"
            if consent == "always":
                self.allowed.add(call.name)
        try:
            return format_result(tool.run(call.arguments))
        except ToolFailed as err:
            return format_result(f"error: {err}")
        except Exception as err:
            return format_result(f"error: {type(err).__name__}: {err}")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt inside the block: in a chat it stops the model alone."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def answer_with_tools(
    answer: Callable[[], Reply],
    add_message: Callable[[Message], None],
    toolbox: Toolbox,
    *,
    ask: Callable[[ToolCall, Tool], Consent],
    show_call: Callable[[ToolCall], None],
    show_result: Callable[[ToolCall, str], None],
) -> Reply:
    """Return the reply that calls no tool any more; the results before it become messages.

    `answer` lets the model answer what there is of the conversation. Each call is shown, then
    consented to where it must be, and its result is shown. Raises LoopStopped if it calls
    tools for more rounds than it may, or makes the same call SAME_CALLS times.
    """
    calls: Counter[str] = Counter()
    rounds = 0
    while True:
        reply = answer()
        if reply.finish_reason != "stop" or not reply.tool_calls:
            return reply
        rounds += 1
        if rounds > toolbox.max_rounds:
            raise LoopStopped(
                f"the model has called tools in {count_text(toolbox.max_rounds, 'round')} "
                "and did not answer",
                hint=f"--max-tool-rounds {2 * toolbox.max_rounds}",
            )
        for call in reply.tool_calls:
            key = f"{call.name} {json.dumps(call.arguments, sort_keys=True, default=str)}"
            calls[key] += 1
            if calls[key] >= SAME_CALLS:
                raise LoopStopped(
                    f"the model is in a loop: it called {call.name} with the same arguments "
                    f"{SAME_CALLS} times",
                    hint="ask in another way",
                )
            show_call(call)
            result = toolbox.run_call(call, ask)
            show_result(call, result)
            add_message(Message("tool", result, name=call.name))


@contextmanager
def open_toolbox(
    options: ToolOptions, warn: Callable[[str], None] = lambda _: None
) -> Iterator[Toolbox]:
    """Yield the tools of a chat.

    The processes of Python functions and MCP servers end with the block. Raises UsageError,
    FileMissing or RuntimeFailed.
    """
    found: list[Tool] = []
    with ExitStack() as stack:
        if options.tool or options.tools:
            from g4cli.operations.tools.functions import FunctionProcess

            functions = FunctionProcess(options.tool, options.tools, state_dir() / "tools.log")
            stack.callback(functions.close)
            found += functions.tools
        if options.builtin:
            from g4cli.operations.tools.builtin import make_builtin_tools

            found += make_builtin_tools(options.builtin)
        if options.mcp:
            from g4cli.operations.tools.mcp_servers import McpServers, read_servers

            servers = McpServers(read_servers(options.mcp), state_dir() / "mcp.log")
            stack.callback(servers.close)
            found += servers.tools
        yield Toolbox(_index_by_name(found, warn), options.max_tool_rounds, set(options.yes))


def _index_by_name(found: Sequence[Tool], warn: Callable[[str], None]) -> dict[str, Tool]:
    """Return tools by name. Raises UsageError if two have one name; leaves malformed ones out."""
    tools: dict[str, Tool] = {}
    for tool in found:
        if tool.name in tools:
            raise UsageError(
                f"two tools are called {tool.name}: of {tools[tool.name].source} and of "
                f"{tool.source}"
            )
        try:
            declare_tool(tool.declaration)
        except (G4Error, AttributeError, TypeError, ValueError) as err:
            warn(f"the tool {tool.name} of {tool.source} is left out: {err}")
            continue
        tools[tool.name] = tool
    return tools

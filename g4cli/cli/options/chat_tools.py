"""The options of `g4 chat` that name tools which the model may call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from g4cli.cli.options.chat import prompt_option
from g4cli.cli.settings import Origin
from g4cli.core.errors import UsageError

if TYPE_CHECKING:
    from g4cli.operations.tools.options import ToolOptions

ToolsOpt: TypeAlias = Annotated[
    Path | None,
    prompt_option(
        "--tools",
        help="Python file whose public functions the model may call; or a JSON list of tools in "
        "OpenAI's format, whose calls are printed, not run.",
    ),
]
ToolOpt: TypeAlias = Annotated[
    list[str] | None,
    prompt_option(
        "--tool",
        metavar="MODULE:FUNCTION",
        help="Python function that the model may call. Repeatable.",
    ),
]
McpOpt: TypeAlias = Annotated[
    Path | None,
    prompt_option("--mcp", help="JSON with mcpServers, whose tools the model may call."),
]
BuiltinOpt: TypeAlias = Annotated[
    str,
    prompt_option(
        "--builtin",
        metavar="NAMES",
        help="Tools of g4 that the model may call: time,files:FOLDER (reads below FOLDER).",
    ),
]
YesToolOpt: TypeAlias = Annotated[
    list[str] | None,
    prompt_option("--yes", metavar="TOOL", help="Run this tool without asking. Repeatable."),
]
ToolRoundsOpt: TypeAlias = Annotated[
    int,
    prompt_option(
        "--max-tool-rounds", min=1, help="Stop after so many replies in a row that call tools."
    ),
]


def make_tool_options(
    *,
    tools: Path | None,
    tool: list[str] | None,
    mcp: Path | None,
    builtin: str,
    yes: list[str] | None,
    max_tool_rounds: int,
    origins: Mapping[str, Origin],
) -> ToolOptions | None:
    """Return the tools that g4 runs when the model calls them, None if no option names any.

    The arguments are the values of the options above. A JSON list in `tools` only declares tools:
    g4 prints their calls. `origins` are those of read_origins. Raises UsageError for such a list
    beside tools that g4 runs, and for an option that would be ignored.
    """
    from g4cli.operations.tools.options import ToolOptions

    options = ToolOptions(
        tool=tool or (),
        tools=tools if is_python_file(tools) else None,
        mcp=mcp,
        builtin=builtin,
        yes=yes or (),
        max_tool_rounds=max_tool_rounds,
    )
    if not options.has_tools:
        for name in ("yes", "max_tool_rounds"):
            if (option := origins.get(name)) and option.is_of_call:
                raise UsageError(
                    f"{option} needs a tool that g4 runs", hint=f"--builtin time {option} ..."
                )
        return None
    if tools is not None and not is_python_file(tools):
        raise UsageError(
            "a JSON list of --tools declares what g4 does not run: it excludes --tool, --mcp and "
            "--builtin",
            hint="--tools FILE.py",
        )
    return options


def is_python_file(tools: Path | None) -> bool:
    """Return whether `tools`, the value of --tools, is a Python file and not a JSON list."""
    return tools is not None and tools.suffix == ".py"

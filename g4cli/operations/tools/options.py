"""Which tools a chat has: the options of `g4 chat`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOptions:
    """Which tools a chat has; the fields are the options of the same names.

    `yes`: the names of tools that need no consent.
    """

    tool: Sequence[str] = ()  # each MODULE:FUNCTION
    tools: Path | None = None  # a file of Python
    mcp: Path | None = None  # a file of MCP servers (mcp_servers.py)
    builtin: str = ""  # "time", "files:FOLDER", or both with a comma
    yes: Sequence[str] = ()
    max_tool_rounds: int = 10

    @property
    def has_tools(self) -> bool:
        """Return whether there is anything to run."""
        return bool(self.tool or self.tools or self.mcp or self.builtin)

"""Call every tool of the MCP server at a URL, as a chat does: `python mcp_client.py URL`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from g4cli.operations.tools.options import ToolOptions
from g4cli.operations.tools.toolbox import open_toolbox
from g4cli.prompt.messages import ToolCall

ARGUMENTS: dict[str, dict[str, Any]] = {"add_numbers": {"a": 5, "b": 3}}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "servers.json"
        config.write_text(json.dumps({"mcpServers": {"test": {"url": sys.argv[-1]}}}))
        with open_toolbox(ToolOptions(mcp=config)) as toolbox:
            for name in toolbox.tools:
                call = ToolCall(name, ARGUMENTS.get(name, {}))
                print(name, toolbox.run_call(call, lambda *_: "yes"))  # the user allows each call

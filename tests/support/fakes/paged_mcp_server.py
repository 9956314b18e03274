"""An MCP server that lists its tools in pages: `python paged_mcp_server.py PAGES`.

It speaks the protocol itself, without any library. Each page has two tools.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def answer(method: str, params: dict[str, Any], n_pages: int) -> dict[str, Any]:
    """Return the result of a request."""
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "paged", "version": "1"},
        }
    if method == "tools/list":
        page = int(params.get("cursor") or 0)
        names = (f"tool_{2 * page}", f"tool_{2 * page + 1}")
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
        more = {"nextCursor": str(page + 1)} if page + 1 < n_pages else {}
        return {"tools": tools, **more}
    link = {"type": "resource_link", "name": "notes", "uri": "file:///notes.txt"}
    return {"content": [{"type": "text", "text": params["name"]}, link]}


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request:
            result = answer(request["method"], request.get("params") or {}, int(sys.argv[1]))
            reply = {"jsonrpc": "2.0", "id": request["id"], "result": result}
            print(json.dumps(reply), flush=True)

"""The child that renders a chat template; `g4cli.core.template_child` starts it.

Reads {"template": text, "cases": [variables, ...]} from standard input and writes {"texts": [...]}
or {"error": "does not parse: ..."} to standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from g4cli.prompt.sandbox import TemplateFault, render_cases


def answer_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"texts": the rendered cases}, or {"error": what is wrong with the template}."""
    try:
        return {"texts": render_cases(request["template"], request["cases"])}
    except TemplateFault as fault:
        return {"error": str(fault)}
    except MemoryError:
        return {"error": "takes too much memory"}


def main() -> None:
    """Answer the request on standard input."""
    answer = answer_request(json.loads(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace"))


if __name__ == "__main__":
    main()

"""The child that renders drawings; `runtime.render.render` starts it.

Reads {"jobs": [{"svg": text, "size": {"width" or "height": pixels}}, ...]} from standard input and
writes a line of JSON for each to standard output: {"png": base64} or {"error": text}. resvg crashes
on some drawings, such as elements nested 300 deep; the lines printed before that show which.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from typing import Any

import resvg_py


def render_job(job: Mapping[str, Any]) -> dict[str, str]:
    """Return {"png": the picture in base64}, or {"error": why resvg refused the drawing}."""
    try:
        # Of one side, resvg finds the other by the aspect ratio. An inch is 96 pixels, as in CSS.
        png = resvg_py.svg_to_bytes(svg_string=job["svg"], dpi=96, **job["size"])
    except ValueError as err:
        return {"error": str(err)}
    return {"png": base64.b64encode(png).decode()}


def main() -> None:
    """Answer the request on standard input."""
    for job in json.loads(sys.stdin.buffer.read())["jobs"]:
        print(json.dumps(render_job(job)), flush=True)


if __name__ == "__main__":
    main()

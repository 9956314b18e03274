"""Render drawings in a child process, with limits on time, memory, size, depth and repetition."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from g4cli.core.child import ChildLimits, exit_text, parse_json_lines, run_child
from g4cli.core.errors import RuntimeFailed
from g4cli.core.units import GIB
from g4cli.svg.repair import DEPTH_LIMIT, Drawing

MAX_SIDE: Final = 8192  # a choice, in pixels: 256 MiB for a square, a quarter of the limit below
# Choices: the pixels that a side of a drawing may declare. Its picture has as many as asked for.
_SMALLEST, _LARGEST = 1e-6, 1e9
# resvg draws 100,000 elements in 3 s; more come only from nested <use> elements.
MAX_DRAWN: Final = 200_000
# Choices for all jobs of a call: drawings of answers take milliseconds and a few MiB.
_CPU_LIMIT_S: Final = 20
_WALL_LIMIT_S: Final = 60.0
_MEMORY_LIMIT: Final = GIB  # bytes


@dataclass(frozen=True, slots=True)
class Rendering:
    """A PNG, or the reason why there is none."""

    png: bytes = b""
    error: str = ""


@dataclass(frozen=True, slots=True)
class RenderJob:
    """A drawing to render: its aspect ratio, and the larger side of the picture in pixels."""

    svg: str
    ratio: float  # width divided by height
    side: int


def refuse_rendering(drawing: Drawing) -> str:
    """Return why a drawing must not be rendered, as the end of a sentence, or '' if it may be."""
    if drawing.text is None or drawing.frame is None:
        return "it could not be repaired"
    frame = drawing.frame
    if not all(_SMALLEST <= size <= _LARGEST for size in (frame.width, frame.height)):
        return f"its size is {frame.width:g} x {frame.height:g} pixels"
    if drawing.depth > DEPTH_LIMIT:
        return f"its elements are nested {drawing.depth:,} deep, more than {DEPTH_LIMIT}"
    if drawing.n_drawn > MAX_DRAWN:
        return f"it draws {drawing.n_drawn:,} elements, more than {MAX_DRAWN:,}"
    return ""


def render_jobs(jobs: Sequence[RenderJob]) -> list[Rendering]:
    """Return the picture of each job, or why there is none. One child renders all of them.

    Raises RuntimeFailed if no process can be started.
    """
    requests = []
    for job in jobs:
        larger = "width" if job.ratio >= 1 else "height"
        requests.append({"svg": job.svg, "size": {larger: min(job.side, MAX_SIDE)}})
    try:
        seen, status = run_child(
            "g4cli.runtime.render.child",
            text=json.dumps({"jobs": requests}),
            timeout_s=_WALL_LIMIT_S,
            memory_bytes=_MEMORY_LIMIT,
            # More addresses than memory: libraries and stacks reserve some that they do not use.
            limits=ChildLimits(address_bytes=2 * _MEMORY_LIMIT, cpu_seconds=_CPU_LIMIT_S),
        )
    except OSError as err:
        raise RuntimeFailed(f"the renderer cannot be started: {err}") from err
    renderings = []
    for answer in parse_json_lines(seen.stdout):
        error = str(answer.get("error", ""))
        renderings.append(Rendering(base64.b64decode(answer.get("png", "")), error))
    if len(renderings) < len(jobs):
        why = "took too long" if seen.timed_out else f"ended with {exit_text(status)}"
        if seen.over_limit:
            why = "needed too much memory"
        if "No module named 'resvg_py'" in seen.stderr:
            why = "is not installed: pip install resvg_py"
        renderings += [Rendering(error=f"the renderer {why}")] * (len(jobs) - len(renderings))
    return renderings

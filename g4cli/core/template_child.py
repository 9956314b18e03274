"""Render an untrusted chat template in a child process with limits.

A template is a program. jinja2's sandbox keeps it away from Python's insides, but not from the
processor and the memory: one filter call (`1|round(300000000)`) hangs inside C code for hours,
another takes gigabytes. The kernel limits a child; nothing limits a template inside the process
that holds the conversation.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from g4cli.core.child import ChildLimits, parse_json_lines, run_child
from g4cli.core.errors import BadFile
from g4cli.core.quoting import shell_command
from g4cli.core.units import GIB

TEMPLATE_KEY: Final = "tokenizer.chat_template"
"""The key under which a GGUF holds its chat template."""
# The published templates have 12,000 to 18,000 characters.
TEMPLATE_LIMIT: Final = 1 << 18  # characters
# Choices: rendering a long conversation takes milliseconds and some 100 MiB.
CPU_LIMIT_S: Final = 5
# Longer than the limit of processor time, because the machine may be busy.
WALL_LIMIT_S: Final = 30.0
MEMORY_LIMIT: Final = GIB


def render_template(
    template: str, cases: Sequence[Mapping[str, Any]], *, path: Path | None = None
) -> list[str]:
    """Return what `template` writes for each case, a mapping from variable names to JSON values.

    One child renders all cases, in about 0.15 s. Raises BadFile if the template cannot be rendered;
    `path` is the file that holds it, for the message.
    """

    def fault(what: str) -> BadFile:
        where = f"{path}: the" if path else "the"
        hint = shell_command("g4", "doctor", path) if path else None
        return BadFile(f"{where} chat template {what}", hint=hint)

    if len(template) > TEMPLATE_LIMIT:
        raise fault(f"has {len(template):,} characters; {TEMPLATE_LIMIT:,} are accepted")
    try:
        output, status = run_child(
            "g4cli.runtime.probes.template_child",
            text=json.dumps({"template": template, "cases": [dict(case) for case in cases]}),
            timeout_s=WALL_LIMIT_S,
            memory_bytes=MEMORY_LIMIT,
            limits=ChildLimits(address_bytes=MEMORY_LIMIT, cpu_seconds=CPU_LIMIT_S),
        )
    except OSError as err:
        raise fault(f"cannot be rendered: {err}") from err
    if output.timed_out or status in (-signal.SIGXCPU, -signal.SIGKILL):
        raise fault(
            f"was stopped: it takes more than {CPU_LIMIT_S} s"
            f" or {MEMORY_LIMIT // GIB} GiB of memory"
        )
    answer = next(iter(parse_json_lines(output.stdout)), {})
    if "error" in answer:
        raise fault(str(answer["error"]))
    texts = answer.get("texts")
    if status != 0 or not isinstance(texts, list) or len(texts) != len(cases):
        raise fault(f"ends the process that renders it (status {status})")
    return [str(text) for text in texts]

"""How a worker process ended, as an error that says what to do.

process.py and async_worker.py, which watch the process, raise the error. A "worker of --rpc" is
another machine (see the glossary).
"""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Final

from g4cli.core.child import exit_text
from g4cli.core.errors import BadFile, G4Error, NoMemory, RuntimeFailed
from g4cli.core.quoting import shell_command

_MAX_REASON_CHARACTERS: Final = 400  # a choice: longer than any message of ggml
_VMSTAT: Final = Path("/proc/vmstat")
# Somebody ended the process: that says nothing about the file it was loading.
_FROM_OUTSIDE: Final = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
# What llama.cpp's client of RPC servers aborts with: RPC_STATUS_ASSERT and rpc_dispatcher::start,
# ggml/src/ggml-rpc/ggml-rpc.cpp.
_RPC_WORKER_LOST: Final = re.compile(
    r"^.*(?:Remote RPC server crashed|Failed to connect to|RPC handshake failed).*$", re.MULTILINE
)
# What an abort of ggml or of the C++ runtime writes, the most informative first. GGML_ASSERT and
# GGML_ABORT both end in ggml_abort, which writes "FILE:LINE: text" (ggml/src/ggml.c). Where a
# pattern has a group, the group is the reason, otherwise the whole line.
_REASONS: Final = (
    re.compile(r"^.*(?:GGML_ASSERT|\.(?:c|cc|cpp|h|hpp|m|mm|cu|cuh):\d+: ).*$", re.MULTILINE),
    re.compile(r"^ *what\(\): *(.+)$", re.MULTILINE),
    re.compile(r"^.*error:.*$", re.MULTILINE | re.IGNORECASE),
    re.compile(r"^.*terminate called.*$", re.MULTILINE),
)


def make_exit_error(
    status: int,
    stderr_text: str,
    *,
    current_file: Path | None,
    opening: Path | None = None,
    out_of_memory: bool | None = None,
) -> G4Error:
    """Return the error for a worker process that ended with `status` (negative: a signal).

    `stderr_text`: the end of its standard error. `current_file`: the one that it worked with.
    `opening`: the file that it was loading, if any. `out_of_memory`: whether the kernel killed
    processes for lack of memory meanwhile; None where the system does not count them.
    """
    file = opening or current_file
    if status == -signal.SIGKILL and out_of_memory is not False:
        return NoMemory(
            f"the system ended the process that held {file or 'the model'}: "
            + ("not enough memory" if out_of_memory else "probably not enough memory"),
            hint=shell_command("g4", "fit", file) if file else None,
        )
    if _RPC_WORKER_LOST.search(stderr_text):
        return RuntimeFailed(
            "the connection to a worker of --rpc broke: the worker ended, or the network failed",
            hint="start it again (g4 worker), then repeat the request (in a chat: /retry)",
        )
    reason = find_reason(stderr_text)
    how = exit_text(status) + (f": {reason}" if reason else "")
    doctor = shell_command("g4", "doctor", *([file] if file else []))
    if opening and status not in _FROM_OUTSIDE:
        return BadFile(f"{opening}: llama.cpp crashed while loading this file ({how})", hint=doctor)
    return RuntimeFailed(f"the process that runs the model ended ({how})", hint=doctor)


def find_reason(stderr_text: str) -> str:
    """Return the line of a dead process's standard error that says why, safe to print, or ""."""
    for pattern in _REASONS:
        matches = list(pattern.finditer(stderr_text))
        if matches:
            text = matches[-1][pattern.groups].strip()  # group 0 is the whole match
            return "".join(c if c.isprintable() else "?" for c in text)[:_MAX_REASON_CHARACTERS]
    return ""


def count_oom_kills(vmstat: Path = _VMSTAT) -> int | None:
    """Return how many processes the kernel has killed for lack of memory since the system started.

    None where it does not count them.
    """
    try:
        lines = vmstat.read_text().splitlines()
    except OSError:
        return None
    counts = (line.split()[1] for line in lines if line.startswith("oom_kill "))
    return next((int(count) for count in counts), None)

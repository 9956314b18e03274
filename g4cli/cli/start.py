"""Where the `g4` command begins: Ctrl-C ends it at once, without a traceback, while the libraries load."""

from __future__ import annotations

import os
import signal
from types import FrameType

_INTERRUPTED = 130


def main() -> None:
    """Run g4 and leave with its exit code."""
    # A shell starts background jobs with SIGINT ignored: that stays.
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, _leave)
    from g4cli.cli.main import main as run_command

    try:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run_command()
    except KeyboardInterrupt:
        _leave(signal.SIGINT, None)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    # Not sys.exit(): a library may catch it in the middle of its import.
    os._exit(_INTERRUPTED)

"""The entry point of `g4`: Ctrl-C ends it without a traceback even while modules are imported."""

from __future__ import annotations

import os
import signal
from types import FrameType

_INTERRUPTED = 130  # Interrupted.exit_code: importing it would come before Ctrl-C is handled


def main() -> None:
    """Run g4 and exit with its exit code."""
    # A shell starts background jobs with SIGINT ignored; that must stay so. Else the handler is
    # Python's, which raises KeyboardInterrupt.
    handles_ctrl_c = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handles_ctrl_c:
        signal.signal(signal.SIGINT, _exit_now)
    from g4cli.cli.main import main as run_command

    try:
        if handles_ctrl_c:  # from here on commands handle KeyboardInterrupt themselves
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run_command()
    except KeyboardInterrupt:
        _exit_now(signal.SIGINT, None)


def _exit_now(_signal: int, _frame: FrameType | None) -> None:
    # Not sys.exit(): a library that is being imported may catch SystemExit.
    os._exit(_INTERRUPTED)

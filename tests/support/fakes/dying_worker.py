"""A worker process that dies and leaves behind a process that holds its pipes open."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

if __name__ == "__main__":
    # It ends when the process that started the worker closes the worker's standard input.
    subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"])
    os.kill(os.getpid(), signal.SIGSEGV)

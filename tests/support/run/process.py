"""What the system says about a process."""

from __future__ import annotations

import time
from pathlib import Path


def wait_until_gone(pid: int, seconds: float = 60) -> bool:
    """Return whether the process `pid` ends within `seconds`: its parent can ask for its status."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return True
        state, n_threads = stat[0], int(stat[17])  # fields 3 and 20, proc_pid_stat(5)
        # It has ended; nobody has asked for its status yet. While another of its threads is still
        # on its way out, nobody can.
        if state == "Z" and n_threads == 1:
            return True
        time.sleep(0.02)
    return False

"""How much memory this machine has, from the standard library alone."""

from __future__ import annotations

import os
from pathlib import Path


def total_and_available() -> tuple[int, int]:
    """Return total and available bytes of memory; zeros where the system does not say."""
    info = Path("/proc/meminfo")
    if info.is_file():
        fields = {
            line.split(":")[0]: line.split()
            for line in info.read_text().splitlines()
            if ":" in line
        }
        return int(fields["MemTotal"][1]) * 1024, int(fields["MemAvailable"][1]) * 1024
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0, 0
    return total, total


def available_bytes() -> int:
    """Return the bytes that a new process can have, 0 if unknown."""
    return total_and_available()[1]

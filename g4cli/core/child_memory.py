"""Measure the private memory of a child process, and end a child that uses too much.

RLIMIT_AS is no limit for a program that maps a 20 GB file, because it counts the mapping. What is
counted here is memory that is not backed by a file: RssAnon and VmSwap of /proc/PID/status on
Linux, the physical footprint of proc_pid_rusage on macOS. On Linux the child also gets an
RLIMIT_DATA a little higher, which stops an allocation that is faster than the poll. Elsewhere only
the time limit holds.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.core.units import GIB

# A choice: a process can allocate some 100 MiB meanwhile, and the poll takes 0.1 ms.
POLL_S: Final = 0.05
# Room between the limit that the parent watches and the kernel's, a choice: the parent tells the
# reason, so it should come first.
DATA_SLACK: Final = GIB
# struct rusage_info_v0 of <sys/resource.h>, macOS: 16 bytes of uuid, then words of 8 bytes;
# ri_phys_footprint is the eighth. RUSAGE_INFO_V0 is 0.
_FOOTPRINT_AT: Final = 16 + 7 * 8
_RUSAGE_BYTES: Final = 96


@dataclass(frozen=True, slots=True)
class ChildOutput:
    """What a child wrote, and how it ended.

    `peak_bytes`: the most private memory seen, 0 where it cannot be measured.
    """

    stdout: str
    stderr: str
    timed_out: bool
    over_limit: bool
    peak_bytes: int


def private_bytes(pid: int) -> int:
    """Return the private memory of process `pid` in bytes, mapped files excluded; 0 if unknown."""
    if sys.platform == "darwin":
        return _read_footprint(pid)
    return status_bytes(Path(f"/proc/{pid}/status"))


def peak_resident_bytes(pid: int) -> int:
    """Return the most resident memory that process `pid` had, mapped files included; 0 if unknown.

    That is VmHWM of /proc/PID/status, which Linux alone has.
    """
    return status_bytes(Path(f"/proc/{pid}/status"), ("VmHWM:",))


def status_bytes(status: Path, fields: tuple[str, ...] = ("RssAnon:", "VmSwap:")) -> int:
    """Return the sum of `fields` of a /proc/PID/status, or 0 without one."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(fields))


def _read_footprint(pid: int) -> int:
    try:
        library = ctypes.CDLL("/usr/lib/libproc.dylib")
        buffer = ctypes.create_string_buffer(_RUSAGE_BYTES)
        if library.proc_pid_rusage(ctypes.c_int(pid), ctypes.c_int(0), buffer) != 0:
            return 0
    except (OSError, AttributeError):
        return 0
    return int.from_bytes(buffer.raw[_FOOTPRINT_AT : _FOOTPRINT_AT + 8], "little")


def communicate(
    process: subprocess.Popen[bytes],
    text: str,
    *,
    timeout_s: float,
    limit_bytes: int = 0,
    measure_memory: Callable[[int], int] = private_bytes,
) -> ChildOutput:
    """Send `text` to `process` and return its output; kill it at a limit.

    The limits are `timeout_s` seconds and `limit_bytes` of private memory (0: none), as
    `measure_memory` returns it for a process id. The process has ended when this returns or raises.
    """
    end = time.monotonic() + timeout_s
    peak, sent, timed_out, over = 0, False, False, False
    try:
        while True:
            try:
                out, err = process.communicate(None if sent else text.encode(), timeout=POLL_S)
                return ChildOutput(_decode_output(out), _decode_output(err), timed_out, over, peak)
            except subprocess.TimeoutExpired:
                sent = True
            peak = max(peak, measure_memory(process.pid))
            over = over or 0 < limit_bytes < peak
            timed_out = timed_out or (not over and time.monotonic() > end)
            if over or timed_out:
                process.kill()
    except BaseException:
        process.kill()
        process.wait()
        raise


def _decode_output(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace").replace("\r\n", "\n")

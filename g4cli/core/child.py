"""Start parts of g4 in child processes: the one way in which g4 runs itself again.

What a hostile file does to llama.cpp or to a template must not reach the process that holds the
user's conversation, so such work is done by a child. A child must not be easier to attack than its
parent, hence:

* **Code**: `python -m` puts the current folder first on the import path, so that a `json.py` next
  to a downloaded model would run as the user. A child is started in Python's isolated mode (`-I`)
  with the import path of its parent, minus the current folder.
* **Environment**: only the variables that Python, llama.cpp and the GPU drivers read are passed on.
  Tokens and passwords are not.
* **Lifetime**: a child ends with its parent, however the parent ends. It watches a pipe whose other
  end the parent holds (the kernel closes it), and on Linux it also asks for SIGKILL at its parent's
  death, which works while C code holds Python's lock. A limit of processor seconds is the last
  resort.
* **Memory**: limits that the kernel enforces (`ChildLimits`), set before any file is opened.

These measures contain crashes, hangs and excessive use of memory. They do not contain an exploit: a
child has the rights of its user.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from weakref import finalize

from g4cli.core.child_memory import ChildOutput, communicate
from g4cli.core.units import GIB

# The folder that holds the package g4cli: a checkout or site-packages.
_PACKAGE_ROOT: Final = str(Path(__file__).resolve().parents[2])
# What the child's interpreter runs first: the import path of its parent, then the module.
_BOOT: Final = (
    "import json,sys;_start=json.loads(sys.argv[1]);sys.path[:]=_start['path'];"
    "from g4cli.core.child import enter;enter(_start)"
)
_KEPT_NAMES: Final = frozenset(
    (
        "PATH",
        "HOME",
        "USERPROFILE",
        "SYSTEMROOT",
        "TMPDIR",
        "TEMP",
        "TMP",
        "LANG",
        "LANGUAGE",
        "TZ",
        "COVERAGE_PROCESS_CONFIG",  # set by `coverage run` for the processes that it measures
    )
)
_KEPT_PREFIXES: Final = (
    "LC_", "LD_", "DYLD_", "G4_", "XDG_", "GGML_", "LLAMA_", "OMP_", "OPENBLAS_", "MKL_",
    "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "HSA_", "VK_", "MTL_", "METAL_",
)  # fmt: skip
_SECRET_WORDS: Final = ("TOKEN", "SECRET", "PASSWORD", "API_KEY")
_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>
_PR_SET_NO_NEW_PRIVS: Final = 38
# Private memory of a child unless its caller says otherwise. Python, llama.cpp and a vocabulary
# take 300 MiB.
MEMORY_BYTES: Final = 2 * GIB
NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})
_ORPHANED: Final = 120  # the exit status of a child whose parent has gone: a choice


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What the kernel refuses a child; 0 means no limit. Ignored on systems without setrlimit.

    `data_bytes`: heap and private writable memory (RLIMIT_DATA; a mapped model file does not
    count). `address_bytes`: the whole address space (RLIMIT_AS), for children that map no model.
    `cpu_seconds`: processor time over all threads (RLIMIT_CPU).
    """

    data_bytes: int = 0
    address_bytes: int = 0
    cpu_seconds: int = 0


class Child(subprocess.Popen[bytes]):
    """A running part of g4. Use it as a context manager, or call `close`.

    `cut_lifeline` closes the end of the pipe that the child watches (see Lifetime above), once: in
    `close`, or when this object is collected.
    """

    cut_lifeline: Callable[[], object]

    def close(self) -> None:
        """End the child if it still runs, wait for it and close all pipes."""
        if self.poll() is None:
            self.kill()
        with contextlib.suppress(OSError):
            self.wait()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream:
                with contextlib.suppress(OSError):  # nobody reads what was still buffered
                    stream.close()
        self.cut_lifeline()

    def __exit__(self, *exc: Any) -> None:
        self.close()


def start_child(
    module: str,
    args: Sequence[str] = (),
    *,
    limits: ChildLimits = ChildLimits(),
    ignore_interrupt: bool = False,
    stderr: int = subprocess.PIPE,
    environment: Mapping[str, str] = NO_VARIABLES,
) -> Child:
    """Start `module` of g4 with `args` as its `sys.argv[1:]`; its three streams are pipes of bytes.

    `ignore_interrupt` keeps Ctrl-C, which a terminal sends to all processes of a command, from
    ending the child: its parent then decides. `environment`: variables that it gets in addition to
    those that are passed on. Raises OSError if the system cannot start a process.
    """
    reading, writing = os.pipe() if os.name == "posix" else (None, None)
    start = {
        "path": _import_path(),
        "module": module,
        "limits": asdict(limits),
        "ignore_interrupt": ignore_interrupt,
        "lifeline": reading,
        "parent": os.getpid(),
        # PR_SET_PDEATHSIG follows the thread that started the child, not its process.
        "from_main_thread": threading.current_thread() is threading.main_thread(),
    }
    try:
        child = Child(
            [sys.executable, "-I", "-c", _BOOT, json.dumps(start), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**child_environment(os.environ), **environment},
            pass_fds=() if reading is None else (reading,),
        )
    except BaseException:
        if writing is not None:
            os.close(writing)
        raise
    finally:
        if reading is not None:
            os.close(reading)
    child.cut_lifeline = (lambda: None) if writing is None else finalize(child, os.close, writing)
    return child


def run_child(
    module: str,
    args: Sequence[str] = (),
    *,
    text: str = "",
    timeout_s: float,
    memory_bytes: int = MEMORY_BYTES,
    limits: ChildLimits = ChildLimits(),
) -> tuple[ChildOutput, int]:
    """Return the output of a child that reads `text` from its stdin, and its exit status.

    The status is negative for a signal. The child is killed after `timeout_s` seconds, or when it
    holds more than `memory_bytes` for itself (0: no limit). Should this process be stopped or die
    first, the kernel ends the child after the processor time that all cores have in `timeout_s`.
    Raises OSError if the system cannot start a process.
    """
    if not limits.cpu_seconds:
        cores = os.cpu_count() or 1
        limits = replace(limits, cpu_seconds=math.ceil(timeout_s) * cores + 1)
    with start_child(module, args, limits=limits) as child:
        output = communicate(child, text, timeout_s=timeout_s, limit_bytes=memory_bytes)
        return output, child.returncode


def parse_json_lines(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects among the lines that a child printed; libraries may print others."""
    objects = []
    for line in text.split("\n"):  # JSON may hold the other characters that end lines
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue  # also half a line: the child died while writing it
        if isinstance(value, dict):
            objects.append(value)
    return objects


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `environment` that a child needs, without any secrets."""
    kept = {
        name: value
        for name, value in environment.items()
        if (name in _KEPT_NAMES or name.startswith(_KEPT_PREFIXES))
        and not any(word in name.upper() for word in _SECRET_WORDS)
    }
    # When ggml aborts it would otherwise start a debugger to print its stack.
    return {**kept, "GGML_NO_BACKTRACE": "1"}


def _import_path() -> list[str]:
    """Return the import path of this process without its current folder."""
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # the folder was removed
        here = ""
    # Paths relative to the current folder are as good as that folder itself.
    paths = [
        path
        for path in sys.path
        if os.path.isabs(path) and (path == _PACKAGE_ROOT or os.path.realpath(path) != here)
    ]
    return paths if _PACKAGE_ROOT in paths else [*paths, _PACKAGE_ROOT]


# --- In the child ---


def enter(start: Mapping[str, Any]) -> None:
    """Take on the limits in `start`, then run its module as the main program.

    Called in the child alone.
    """
    import runpy

    if start["ignore_interrupt"]:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent(start)
    set_limits(ChildLimits(**start["limits"]))
    del sys.argv[1]
    sys.argv[0] = start["module"]
    runpy.run_module(start["module"], run_name="__main__", alter_sys=True)


def _end_with_parent(start: Mapping[str, Any]) -> None:
    if sys.platform == "linux":
        import ctypes

        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if start["from_main_thread"]:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != start["parent"]:  # it died before the request
                os._exit(_ORPHANED)
    if start["lifeline"] is not None:
        threading.Thread(target=_watch_lifeline, args=(start["lifeline"],), daemon=True).start()


def _watch_lifeline(lifeline: int) -> None:
    """End this process when its parent has ended: the pipe is never written to, only closed."""
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)
    os._exit(_ORPHANED)


def set_limits(limits: ChildLimits) -> None:
    """Limit this process from now on; 0 leaves a limit as it is."""
    try:
        import resource
    except ImportError:  # Windows: only the limit of time holds
        return
    # Memory images would hold what the user said. With 0, a program that collects them would still
    # get one (core(5)).
    wanted = {
        resource.RLIMIT_CORE: 1,
        resource.RLIMIT_DATA: limits.data_bytes,
        resource.RLIMIT_AS: limits.address_bytes,
        resource.RLIMIT_CPU: limits.cpu_seconds,
    }
    for kind, most in wanted.items():
        if not most:
            continue
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(OSError, ValueError):  # macOS accepts no RLIMIT_DATA below its use
            resource.setrlimit(kind, (most, hard))


def signal_name(code: int) -> str:
    """Return the name of the signal that ended a process, '' for a normal end."""
    if code >= 0:
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def exit_text(status: int) -> str:
    """Return how a process ended, in words: -4 -> 'SIGILL', 1 -> 'exit code 1'."""
    return signal_name(status) or f"exit code {status}"

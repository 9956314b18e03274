"""llama.cpp's C interface, loaded once. Its log is kept for error messages and never printed.

`import llama_cpp` also imports numpy, jinja2 and chat classes that g4 does not use, which takes
0.2 s at each start of a worker. Only the modules of C declarations are loaded here
(`_import_module`).
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from g4cli import LLAMA_CPP_PYTHON
from g4cli.core.errors import EngineMissing, NoMemory, RuntimeFailed
from g4cli.core.units import MIB
from g4cli.runtime.llama.installation import install_command

_LOG_LINES: Final = 4000  # a choice: a load logs one for each tensor (31B: 833), and some hundred
# enum ggml_log_level, ggml/include/ggml.h
_WARN: Final = 3
_ERROR: Final = 4
_CONTINUED: Final = 5
# As llama.cpp logs each buffer (src/llama-model.cpp, llama-kv-cache.cpp, llama-context.cpp), and
# the names of those that no GPU of this machine holds (ggml/src/ggml-*): of the host, of workers.
_BUFFER: Final = re.compile(r"(?P<name>\S+) +(?P<kind>\w+) buffer size += +(?P<mib>[0-9.]+) MiB")
_NOT_GPU: Final = re.compile(r"(CPU|AMX|RPC)|\S+_Host$")
# As ggml's backends, llama.cpp and the C++ library (std::bad_alloc) say that memory is lacking.
_MEMORY: Final = re.compile(r"alloc|out of memory", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of llama.cpp's log. `level` is ggml's: 2 info, 3 warning, 4 error."""

    level: int
    text: str


class Log:
    """The last lines that llama.cpp logged, oldest first."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque(maxlen=_LOG_LINES)
        self._unfinished: str = ""
        self._level = 0

    def add_text(self, level: int, text: str) -> None:
        """Add one log event at ggml's `level`. A line may come in several events.

        The events after the first have the level GGML_LOG_LEVEL_CONT.
        """
        if level != _CONTINUED:
            self._level = level
        self._unfinished += text
        while "\n" in self._unfinished:
            line, self._unfinished = self._unfinished.split("\n", 1)
            if line.strip():
                self._lines.append(LogLine(self._level, line.rstrip()))

    def clear(self) -> None:
        """Remove all lines."""
        self._lines.clear()
        self._unfinished = ""

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """Return the last lines, at most 4000, without blank ones."""
        return tuple(self._lines)

    def list_buffers(self, kind: str) -> list[tuple[str, float]]:
        """Return name and MiB of each buffer of `kind`: "model", "KV", "compute" or "output"."""
        found = (_BUFFER.search(line.text) for line in self._lines)
        return [(m["name"], float(m["mib"])) for m in found if m and m["kind"] == kind]

    def sum_buffers(self, kind: str, *, on_gpu: bool = False) -> int:
        """Return the bytes of all buffers of `kind`.

        `on_gpu`: of those in the memory of this machine's GPUs alone.
        """
        buffers = self.list_buffers(kind)
        return int(sum(n for name, n in buffers if not (on_gpu and _NOT_GPU.match(name))) * MIB)

    def find_error_text(self) -> str:
        """Return the last two error lines, or warnings if there are none, joined by "; "; or "".

        Two, because the last often says only that something failed, and the one before why.
        """
        for level in (_ERROR, _WARN):
            texts = [line.text for line in self._lines if line.level == level]
            if texts:
                return "; ".join(dict.fromkeys(texts[-2:]))
        return ""


LOG: Final = Log()


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """The loaded build of llama.cpp.

    `version` is that of llama-cpp-python, `system_info` names the CPU features that are used,
    `library` is the path of libllama.
    """

    version: str
    system_info: str
    library: Path


@cache
def load_llama() -> Any:
    """Return the module `llama_cpp.llama_cpp`, with the backends started and the log captured.

    Raises EngineMissing if llama-cpp-python is absent, or its library cannot be loaded here.
    """
    # A failed assertion in ggml would otherwise start a debugger on this process.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    module = _import_module("llama_cpp")
    module.llama_log_set(_log_callback(module), None)
    module.llama_backend_init()
    return module


@cache
def load_mtmd() -> Any:
    """Return the module `llama_cpp.mtmd_cpp`, the multimodal library. Raises EngineMissing."""
    base = load_llama()
    module = _import_module("mtmd_cpp")
    module.mtmd_log_set(_log_callback(base), None)
    module.mtmd_helper_log_set(_log_callback(base), None)
    return module


@cache
def build_info() -> BuildInfo:
    """Return version, path and CPU features of the loaded library. Raises EngineMissing."""
    module = load_llama()
    return BuildInfo(
        version=LLAMA_CPP_PYTHON,
        system_info=module.llama_print_system_info().decode("utf-8", "replace").strip(),
        library=Path(module._lib._name),
    )


def engine_failure(what: str, *, hint: str | None = None) -> RuntimeFailed:
    """Return a RuntimeFailed that says `what`, followed by the last error in llama.cpp's log."""
    error_text = LOG.find_error_text()
    return RuntimeFailed(f"{what}: {error_text}" if error_text else what, hint=hint)


def make_context_error(what: str, *, hint: str) -> NoMemory | RuntimeFailed:
    """Return the error for a context that llama.cpp could not make.

    It is NoMemory, with `hint`, only if the log speaks of memory: llama.cpp also refuses options.
    """
    failure = engine_failure(what)
    if _MEMORY.search(LOG.find_error_text()):
        return NoMemory(failure.message, hint=hint)
    return failure


def _import_module(name: str) -> Any:
    """Return the module `name` of llama_cpp, imported without running the package's __init__.

    Python imports a submodule through its package: it looks the package up in `sys.modules` and
    searches the package's `__path__`. So a bare package, with that path and nothing else, stands
    there while the submodule is imported, and is removed again: whoever imports llama_cpp later
    gets the whole package. This relies on two things. Python's import system documents the lookup
    in `sys.modules`. The modules of llama-cpp-python import each other, and not the package; g4
    pins the version exactly, and every test that loads llama.cpp would fail if another version
    changed that.
    """
    try:
        package = sys.modules.get("llama_cpp")
        if package is None:
            spec = importlib.util.find_spec("llama_cpp")
            if spec is None:
                raise ImportError("llama-cpp-python is not installed")
            package = importlib.util.module_from_spec(spec)
            sys.modules["llama_cpp"] = package
            try:
                return importlib.import_module(f"llama_cpp.{name}")
            finally:
                del sys.modules["llama_cpp"]
        return importlib.import_module(f"llama_cpp.{name}")
    except (ImportError, OSError, RuntimeError, AttributeError) as err:
        # RuntimeError: the library exists but cannot be loaded (another CPU, a missing libstdc++);
        # AttributeError: another version, without a function that the declarations name.
        raise EngineMissing(f"llama.cpp cannot be loaded: {err}", hint=install_command()) from err


@cache
def _log_callback(module: Any) -> Any:
    # Cached for the life of the process: C would crash in a callback that Python has freed.
    @module.llama_log_callback  # type: ignore[untyped-decorator,unused-ignore]
    def collect(level: int, text: bytes, _data: ctypes.c_void_p) -> None:
        LOG.add_text(level, text.decode("utf-8", "replace"))

    return collect

"""llama.cpp's C interface, loaded once, quiet: what it logs is kept for error messages, never printed.

Importing the package `llama_cpp` pulls in numpy, jinja2 and a chat framework that g4 does not use (0.2 s);
only its module of C declarations is loaded here.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from g4cli import LLAMA_CPP_PYTHON
from g4cli.core.errors import EngineMissing, RuntimeFailed
from g4cli.runtime.llama.installation import fingerprint_of, install_command

_LOG_LINES: Final = 4000
# enum ggml_log_level, ggml/include/ggml.h
_WARN: Final = 3
_ERROR: Final = 4
_CONTINUED: Final = 5


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of llama.cpp's log. `level` is ggml's: 2 info, 3 warning, 4 error."""

    level: int
    text: str


class Log:
    """The last lines that llama.cpp logged, oldest first."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque(maxlen=_LOG_LINES)
        self._open: str = ""
        self._level = 0

    def feed(self, level: int, text: str) -> None:
        """Take one log event; a line may come in several pieces."""
        if level != _CONTINUED:
            self._level = level
        self._open += text
        while "\n" in self._open:
            line, self._open = self._open.split("\n", 1)
            if line.strip():
                self._lines.append(LogLine(self._level, line.rstrip()))

    def clear(self) -> None:
        """Forget everything."""
        self._lines.clear()
        self._open = ""

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """Return the lines kept."""
        return tuple(self._lines)

    def complaint(self) -> str:
        """Return the last error lines (else warnings) as one sentence, or an empty string."""
        for level in (_ERROR, _WARN):
            found = [line.text for line in self._lines if line.level == level]
            if found:
                return "; ".join(dict.fromkeys(found[-2:]))
        return ""


LOG: Final = Log()


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """Which llama.cpp runs here. `fingerprint` changes whenever the compiled library does."""

    version: str
    system_info: str
    library: Path
    fingerprint: str


@cache
def llama() -> Any:
    """Return the module of C declarations, with the backend started and the log captured.

    Raises EngineMissing if llama-cpp-python is absent, or its library cannot be loaded here.
    """
    # An assertion in ggml would start a debugger on this very process and print its findings.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    module = _import("llama_cpp")
    _capture_log(module)
    module.llama_backend_init()
    return module


@cache
def mtmd() -> Any:
    """Return the module of C declarations of the multimodal library. Raises EngineMissing."""
    base = llama()
    module = _import("mtmd_cpp")
    if hasattr(module, "mtmd_log_set"):
        module.mtmd_log_set(_log_callback(base), None)
        module.mtmd_helper_log_set(_log_callback(base), None)
    return module


@cache
def grammar_module() -> Any:
    """Return the module that turns JSON schemas into grammars. Raises EngineMissing."""
    llama()
    return _import("llama_grammar")


@cache
def build_info() -> BuildInfo:
    """Return which library is loaded and with which CPU features it was built. Raises EngineMissing."""
    module = llama()
    library = Path(module._lib._name)
    return BuildInfo(
        version=LLAMA_CPP_PYTHON,
        system_info=module.llama_print_system_info().decode("utf-8", "replace").strip(),
        library=library,
        fingerprint=fingerprint_of(library.parent),
    )


def failed(what: str, *, hint: str | None = None) -> RuntimeFailed:
    """Return an error that carries llama.cpp's own last complaint."""
    complaint = LOG.complaint()
    return RuntimeFailed(f"{what}: {complaint}" if complaint else what, hint=hint)


def _import(name: str) -> Any:
    try:
        package = sys.modules.get("llama_cpp")
        if package is None:
            spec = importlib.util.find_spec("llama_cpp")
            if spec is None:
                raise ImportError("llama-cpp-python is not installed")
            # The package's __init__ is not run: a bare package lets its modules be imported one by one.
            package = importlib.util.module_from_spec(spec)
            sys.modules["llama_cpp"] = package
            try:
                return importlib.import_module(f"llama_cpp.{name}")
            finally:
                # Whoever imports llama_cpp later gets the whole package.
                del sys.modules["llama_cpp"]
        return importlib.import_module(f"llama_cpp.{name}")
    except (ImportError, OSError, RuntimeError, AttributeError) as err:
        # RuntimeError: the library exists but cannot be loaded (another CPU, a missing libstdc++);
        # AttributeError: another version, without a function that the declarations name.
        raise EngineMissing(f"llama.cpp cannot be loaded: {err}", hint=install_command()) from err


@cache
def _log_callback(module: Any) -> Any:
    # Cached for ever: a callback that Python frees is a jump into nowhere for C.
    @module.llama_log_callback  # type: ignore[untyped-decorator,unused-ignore]
    def collect(level: int, text: bytes, _data: ctypes.c_void_p) -> None:
        LOG.feed(level, text.decode("utf-8", "replace"))

    return collect


def _capture_log(module: Any) -> None:
    module.llama_log_set(_log_callback(module), None)

"""The CMake flags that give this machine a llama.cpp at full speed that does not crash.

Runs before anything is installed (`make setup`), so it needs the standard library alone.

Why: a native build asks the compiler what the CPU offers. Some virtual machines advertise AMX and then
fault on its tile instructions: such a build dies with SIGSEGV or SIGILL in the first Q4_0 product. A build
with GGML_NATIVE=OFF and every other feature of the CPU named runs the same kernels except AMX.
Flags: ggml/CMakeLists.txt, ggml-org/llama.cpp@0c1e57098.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

# A flag is on if the CPU has all the features of its row, as /proc/cpuinfo names them.
X86_FLAGS = (
    ("GGML_SSE42", ("sse4_2",)),
    ("GGML_AVX", ("avx",)),
    ("GGML_F16C", ("f16c",)),
    ("GGML_FMA", ("fma",)),
    ("GGML_BMI2", ("bmi2",)),
    ("GGML_AVX2", ("avx2",)),
    ("GGML_AVX_VNNI", ("avx_vnni",)),
    ("GGML_AVX512", ("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl")),
    ("GGML_AVX512_VBMI", ("avx512vbmi",)),
    ("GGML_AVX512_VNNI", ("avx512_vnni",)),
    ("GGML_AVX512_BF16", ("avx512_bf16",)),
)


class BuildFlags(NamedTuple):
    """CMake arguments and why they were chosen."""

    cmake_args: str
    reason: str


def choose(system: str, machine: str, cpu_features: Set[str], user_args: str = "") -> BuildFlags:
    """Return the flags for a machine; `user_args` (the caller's CMAKE_ARGS) come last, so they win.

    >>> choose("Darwin", "arm64", set()).cmake_args
    ''
    """
    if system == "Linux" and machine in ("x86_64", "AMD64") and "amx_tile" in cpu_features:
        flags = ["-DGGML_NATIVE=OFF"]
        flags += [
            f"-D{flag}={'ON' if cpu_features >= set(needed) else 'OFF'}"
            for flag, needed in X86_FLAGS
        ]
        if (
            "GGML_CUDA=on" in user_args.replace("ON", "on")
            and "CMAKE_CUDA_ARCHITECTURES" not in user_args
        ):
            # GGML_NATIVE=OFF would otherwise compile the CUDA kernels for every card ever sold.
            flags.append("-DCMAKE_CUDA_ARCHITECTURES=native")
        reason = "the CPU advertises AMX, which may fault: every other feature is named instead"
    else:
        flags, reason = [], "a native build is safe here"
    if user_args:
        flags.append(user_args)
        reason += "; your CMAKE_ARGS come last and win"
    return BuildFlags(" ".join(flags), reason)


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return the CPU's features as Linux lists them; empty on other systems."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    line = next((row for row in text.splitlines() if row.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())


def missing_tools() -> list[str]:
    """Return one sentence per thing that the build needs and this machine lacks."""
    missing = []
    if sys.version_info < (3, 10):  # noqa: UP036 (this very script must explain it)
        missing.append(
            f"Python 3.10 or later (this is {platform.python_version()}): make PYTHON=python3.12"
        )
    compilers = (os.environ.get("CXX", "c++"), "g++", "clang++")
    if not any(shutil.which(name) for name in compilers):
        missing.append(
            "a C++ compiler: apt install build-essential, or xcode-select --install on a Mac"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        missing.append("Python's venv module: apt install python3-venv")
    return missing


def main() -> int:
    """Print the flags on standard output and the reason on standard error; 2 if something is missing."""
    for sentence in missing_tools():
        print(f"error: g4 needs {sentence}", file=sys.stderr)
    if missing_tools():
        return 2
    found = choose(
        platform.system(), platform.machine(), cpu_features(), os.environ.get("CMAKE_ARGS", "")
    )
    print(found.cmake_args)
    print(f"build flags: {found.cmake_args or '(default)'} ({found.reason})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

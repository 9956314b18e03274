"""Choose the CMake flags for llama.cpp: full speed on this machine, without crashes.

Runs before anything is installed (`make setup`), so it needs the standard library alone.

A native build uses every feature that the CPU reports. Some virtual machines report AMX but fault
on its tile instructions, so that the first matrix product in Q4_0 ends with SIGSEGV or SIGILL.
There the build has GGML_NATIVE=OFF and names every other feature: it runs the same kernels except
AMX. Flags: ggml/CMakeLists.txt, ggml-org/llama.cpp@0c1e57098.

GGML_RPC lets a model span several machines (`g4 worker`, `--rpc`). It adds a small library.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

ALWAYS_ON = ("-DGGML_RPC=ON",)
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
# With what CMake takes for true (its command `if`, "constant").
_CUDA_ON = re.compile(r"-D ?GGML_CUDA(:\w+)?=(ON|YES|TRUE|Y|[1-9]\d*)(?!\w)", re.IGNORECASE)


class BuildFlags(NamedTuple):
    """CMake arguments and why they were chosen."""

    cmake_args: str
    reason: str


def choose_flags(cpu_features: Set[str], user_args: str = "") -> BuildFlags:
    """Return the CMake flags for a machine and the reason for them.

    `cpu_features` are those that /proc/cpuinfo names, none on other systems than Linux.
    `user_args`, the caller's CMAKE_ARGS, come last, so that they take precedence.

    >>> choose_flags(set()).cmake_args
    '-DGGML_RPC=ON'
    """
    if "amx_tile" in cpu_features:
        flags = [*ALWAYS_ON, "-DGGML_NATIVE=OFF"]
        flags += [
            f"-D{flag}={'ON' if cpu_features >= set(needed) else 'OFF'}"
            for flag, needed in X86_FLAGS
        ]
        if _CUDA_ON.search(user_args) and "CMAKE_CUDA_ARCHITECTURES" not in user_args:
            # With GGML_NATIVE=OFF the CUDA kernels would be compiled for every architecture.
            flags.append("-DCMAKE_CUDA_ARCHITECTURES=native")
        reason = "the CPU reports AMX, which may crash here: all other features are enabled by name"
    else:
        flags, reason = [*ALWAYS_ON], "a native build: this machine has no AMX"
    if user_args:
        flags.append(user_args)
        reason += "; your CMAKE_ARGS come last and take precedence"
    return BuildFlags(" ".join(flags), reason)


def read_cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return the CPU's features as Linux lists them; empty on other systems."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    line = next((row for row in text.splitlines() if row.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())


def missing_tools() -> list[str]:
    """Return what the build needs and this machine lacks, each with the command to install it."""
    missing = []
    if sys.version_info < (3, 10):  # noqa: UP036 (older ones run this)
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
    """Print the flags on stdout and the reason on stderr. Return 2 if something is missing."""
    missing = missing_tools()
    for sentence in missing:
        print(f"error: g4 needs {sentence}", file=sys.stderr)
    if missing:
        return 2
    flags = choose_flags(read_cpu_features(), os.environ.get("CMAKE_ARGS", ""))
    print(flags.cmake_args)
    print(f"build flags: {flags.cmake_args} ({flags.reason})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Folder and fingerprint of the installed llama-cpp-python, found without loading it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Final

from g4cli import LLAMA_CPP_PYTHON
from g4cli.core.errors import EngineMissing
from g4cli.core.hashing import sha256_of
from g4cli.core.quoting import shell_word

WHEELS: Final = "https://abetlen.github.io/llama-cpp-python/whl/"


def install_command() -> str:
    """Return the command that installs llama-cpp-python from prebuilt wheels for this machine."""
    kind = "metal" if sys.platform == "darwin" and platform.machine() == "arm64" else "cpu"
    package = f"llama-cpp-python=={LLAMA_CPP_PYTHON}"
    python = shell_word(sys.executable)
    return f"{python} -m pip install {package} --extra-index-url {WHEELS}{kind}"


def library_folder() -> Path:
    """Return the folder of the shared libraries that llama_cpp loads. Raises EngineMissing."""
    override = os.environ.get("LLAMA_CPP_LIB_PATH")
    if override is not None:  # as in llama_cpp/llama_cpp.py, also if it is empty
        return Path(override)
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise EngineMissing("llama-cpp-python is not installed", hint=install_command())
    return Path(spec.origin).parent / "lib"


def library_fingerprint() -> str:
    """Return a text that changes with the installed library. Raises EngineMissing.

    It holds names, sizes and modification times of its files.
    """
    paths = sorted(library_folder().glob("*"))
    stamps = ((path.name, path.stat()) for path in paths if path.is_file())
    return ",".join(f"{name}:{s.st_size}:{s.st_mtime_ns}" for name, s in stamps)


def hash_library() -> str:
    """Return the sha256 of the names and contents of llama.cpp's shared libraries.

    Unlike the fingerprint it is the same on every machine with this build. It is "" if there are
    none, or llama-cpp-python is not installed.
    """
    try:
        paths = sorted(library_folder().glob("*"))
    except EngineMissing:
        return ""
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    text = "".join(f"{path.name} {sha256_of(path)}\n" for path in files)
    return hashlib.sha256(text.encode()).hexdigest() if text else ""

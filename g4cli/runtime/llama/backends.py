"""The loaded backends of ggml with their features, and for CUDA the versions of runtime and driver.

ggml's CUDA backend names its architectures and switches, and not the CUDA release that compiled it
(ggml_backend_cuda_get_features, ggml/src/ggml-cuda/ggml-cuda.cu, llama.cpp@0c1e57098). The release
is read from the CUDA runtime that the backend loaded into this process, since builds are shipped
with the runtime of their compiler. Where the runtime is linked statically, the version is unknown.

Only the doctor's child process (runtime/probes/doctor_child.py) calls this, for its report.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from g4cli.runtime.llama.devices import declare_functions, list_devices, load_ggml

_GET_FEATURES: Final = b"ggml_backend_get_features"
_CUDART: Final = re.compile(r"\S*/libcudart[^/\s]*\.so\S*")
_DRIVER: Final = "libcuda.so.1"
_MAX_FEATURES: Final = 256  # a choice: a list without an end is not read for ever
_NVIDIA_SMI_TIMEOUT_S: Final = 10  # a choice: a driver that has to be loaded takes seconds

OpenLibrary = Callable[[str], Any]


class Feature(ctypes.Structure):
    """struct ggml_backend_feature, ggml/include/ggml-backend.h."""

    _fields_ = (("name", ctypes.c_char_p), ("value", ctypes.c_char_p))


_FeatureFunction: Final = ctypes.CFUNCTYPE(ctypes.POINTER(Feature), ctypes.c_void_p)


def read_backend_facts() -> dict[str, Any]:
    """Return what is loaded, ready for JSON: {"backends", "devices", "cuda"}.

    "backends" is {name: {feature: value}}, "devices" a list of {"name", "kind", "description"};
    "cuda" is {} unless a CUDA backend is loaded, else what `read_cuda_versions` returns.
    Raises EngineMissing.
    """
    backends = read_features(load_ggml())
    return {
        "backends": backends,
        "devices": [
            {"name": d.name, "kind": d.kind, "description": d.description} for d in list_devices()
        ],
        "cuda": read_cuda_versions() if "CUDA" in backends else {},
    }


def read_features(ggml: Any) -> dict[str, dict[str, str]]:
    """Return {backend: {feature: value}} for the registered backends of the library `ggml`."""
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    declare_functions(
        ggml,
        ("ggml_backend_reg_count", ctypes.c_size_t, []),
        ("ggml_backend_reg_get", pointer, [ctypes.c_size_t]),
        ("ggml_backend_reg_name", text, [pointer]),
        ("ggml_backend_reg_get_proc_address", pointer, [pointer, text]),
    )
    backends = {}
    for index in range(ggml.ggml_backend_reg_count()):
        handle = ggml.ggml_backend_reg_get(index)
        name = ggml.ggml_backend_reg_name(handle).decode("utf-8", "replace")
        address = ggml.ggml_backend_reg_get_proc_address(handle, _GET_FEATURES)
        backends[name] = _read_backend_features(address, handle) if address else {}
    return backends


def _read_backend_features(address: int, handle: Any) -> dict[str, str]:
    rows, features = _FeatureFunction(address)(handle), {}
    for index in range(_MAX_FEATURES if rows else 0):
        name, value = rows[index].name, rows[index].value
        if not name:  # the end of the list
            break
        features[name.decode("utf-8", "replace")] = (value or b"").decode("utf-8", "replace")
    return features


def read_cuda_versions(
    maps: Path = Path("/proc/self/maps"),
    open_library: OpenLibrary = ctypes.CDLL,
    query_release: Callable[[], str] | None = None,
) -> dict[str, str]:
    """Return {"runtime", "driver", "driver_release"} as text, "" where unknown.

    "runtime" is the version of the libcudart in this process ("13.2"), "driver" the newest CUDA
    version that the driver supports, "driver_release" the driver's own number ("580.65.06").
    `maps` lists the files mapped by this process, `open_library` opens a shared library by name,
    `query_release` returns the driver's release (None: nvidia-smi is asked). Tests replace them.
    """
    return {
        "runtime": _query_version(open_library, find_cudart(maps), "cudaRuntimeGetVersion"),
        "driver": _query_version(open_library, [_DRIVER], "cuDriverGetVersion"),
        "driver_release": (query_release or query_driver_release)(),
    }


def find_cudart(maps: Path) -> list[str]:
    """Return the CUDA runtimes that this process has mapped; none where `maps` does not exist."""
    try:
        text = maps.read_text(errors="replace")
    except OSError:
        return []
    return list(dict.fromkeys(_CUDART.findall(text)))


def format_cuda_version(number: int) -> str:
    """Return CUDA's version, 1000 * major + 10 * minor, as text: 13020 -> '13.2', 0 -> ''."""
    return f"{number // 1000}.{number % 1000 // 10}" if number > 0 else ""


def _query_version(open_library: OpenLibrary, names: Iterable[str], function: str) -> str:
    """Return what `function` says of the first of the libraries that has a version, or ''."""
    for name in names:
        version = ctypes.c_int()
        try:
            status = getattr(open_library(name), function)(ctypes.byref(version))
        except (OSError, AttributeError):
            continue
        if status == 0 and (text := format_cuda_version(version.value)):
            return text
    return ""


def query_driver_release() -> str:
    """Return the release of NVIDIA's driver ('580.65.06'), or ''."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_NVIDIA_SMI_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    first = done.stdout.strip().splitlines()[:1] if done.returncode == 0 else []
    return first[0].strip() if first and re.fullmatch(r"[\d.]+", first[0].strip()) else ""

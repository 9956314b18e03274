"""Facts about this machine: memory that this process may use, features of the CPU, and the GPUs.

    HostFacts.available_bytes = the least of
        what the system can give to a new process without swapping (psutil)
        for each control group from ours to the root: its limit minus its use that cannot be freed

Reading these takes milliseconds, but for the GPUs: llama.cpp lists them in a child process. The
list is remembered until a device, a driver or the installed llama.cpp changes (`find_gpus`).
"""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from g4cli.core.build_flags import read_cpu_features
from g4cli.core.child import run_child
from g4cli.core.errors import RuntimeFailed
from g4cli.core.paths import cache_dir
from g4cli.core.records import read_record, write_record

PROBE_TIMEOUT_S: Final = 60
# Device files of GPUs (NVIDIA's driver, DRM of AMD and Intel, ROCm, WSL 2), and files with the
# version of a driver: as glob patterns, and as paths below the root folder.
_GPU_NODES: Final = ("dev/nvidia[0-9]*", "dev/dri/render*", "dev/kfd", "dev/dxg")
_DRIVER_VERSIONS: Final = ("proc/driver/nvidia/version", "sys/module/amdgpu/version")
# Control groups of version 1 write "no limit" as a number near 2^63.
UNLIMITED: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as ggml lists it; a `unified` one shares the memory of the host."""

    name: str
    description: str
    total_bytes: int
    free_bytes: int
    unified: bool = False


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Facts about this machine.

    `limited_by` is "memory" where the whole memory of the machine may be used, else it names the
    control group that allows less. `cpu_features` are those that Linux lists, on a Mac those that
    decide which types llama.cpp repacks. `gpus` is None if they could not be listed.
    """

    total_bytes: int
    available_bytes: int
    limited_by: str
    cpu_features: frozenset[str]
    gpus: tuple[Gpu, ...] | None


def read_host(root: Path = Path("/")) -> HostFacts:
    """Return the facts about this machine; `root` is the folder that holds /proc and /sys."""
    memory = psutil.virtual_memory()
    features = read_cpu_features(root / "proc/cpuinfo")
    if sys.platform == "darwin":  # what all Macs of an architecture have
        features = frozenset(("neon", "dotprod") if platform.machine() == "arm64" else ("avx2",))
    return HostFacts(*limit_memory(root, memory.total, memory.available), features, find_gpus())


def limit_memory(root: Path, total: int, available: int) -> tuple[int, int, str]:
    """Return total and available bytes for this process, and what limits them.

    `total` and `available` are those of the machine. The limit is "memory" or "control group NAME".
    Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst, Linux 6.12.
    """
    limited_by = "memory"
    for folder, limit, usage, reclaimable in _cgroup_limits(root):
        if limit < total:
            total, limited_by = limit, f"control group {folder}"
        available = min(available, max(0, limit - usage + reclaimable))
    return total, available, limited_by


def _cgroup_limits(root: Path) -> Iterator[tuple[str, int, int, int]]:
    """Yield the limits of this process's control groups, innermost first.

    Each is a name, and the bytes of limit, usage and what can be reclaimed: the usage counts cached
    pages of files, which Linux frees when memory is needed ("inactive_file").
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2, which has one hierarchy for all controllers
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = path.strip("/")
        # Inside a container the path may name a folder that only the host sees; the root is then
        # the group of this process.
        folders = [group, *(str(p) for p in Path(group).parents if str(p) != ".")] if group else []
        for folder in [*folders, ""]:
            if numbers := _read_cgroup(base / folder, *names):
                yield ("/" + folder, *numbers)


def _read_cgroup(
    folder: Path, limit: str, usage: str, reclaimable: str
) -> tuple[int, int, int] | None:
    try:
        text = (folder / limit).read_text().strip()
        if text == "max" or int(text) >= UNLIMITED:
            return None
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(text), int((folder / usage).read_text()), int(stat.get(reclaimable, 0))
    except (OSError, ValueError):
        return None


def read_cpu_name(root: Path = Path("/")) -> str:
    """Return the name of the processor, as Linux tells it; elsewhere the architecture's."""
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def engine_version() -> str | None:
    """Return the version of the installed llama-cpp-python, or None if there is none.

    Nothing of it is imported, and its metadata is not read, which would take 30 ms: the name of its
    dist-info folder holds the version.
    """
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return None
    for folder in Path(spec.origin).parents[1].glob("llama_cpp_python-*.dist-info"):
        return folder.name.removeprefix("llama_cpp_python-").removesuffix(".dist-info")
    return None


def find_gpus() -> tuple[Gpu, ...] | None:
    """Return the GPUs of this machine, remembered or listed now.

    None if llama.cpp is not installed or could not list them.
    A Linux machine without a device file of a GPU has none, and llama.cpp is not asked.
    """
    if not engine_version():
        return None
    if sys.platform == "linux" and not list_gpu_nodes():
        return ()
    remembered = cached_gpus()
    if remembered is not None:
        return remembered
    try:
        return refresh_gpus()
    except RuntimeFailed:
        return None


def list_gpu_nodes(root: Path = Path("/")) -> tuple[str, ...]:
    """Return what changes when a GPU or its driver does: device files and versions of drivers."""
    found = sorted(str(path) for pattern in _GPU_NODES for path in root.glob(pattern))
    for name in _DRIVER_VERSIONS if found else ():
        try:
            found.append((root / name).read_text(encoding="utf-8", errors="replace").strip())
        except OSError:
            continue
    return tuple(found)


def describe_gpu_setup() -> list[str]:
    """Return what a remembered list of GPUs depends on, besides the installed llama.cpp.

    On a Mac the drivers come with the system, whose version is the first item ("" elsewhere).
    """
    return [platform.mac_ver()[0], *list_gpu_nodes()]


def _gpu_file() -> Path:
    return cache_dir() / "devices.json"


def cached_gpus() -> tuple[Gpu, ...] | None:
    """Return the GPUs that were listed last, or None if there is no record that still holds."""
    record = read_record(_gpu_file())
    try:
        if (record["library"], record["setup"]) != (engine_version(), describe_gpu_setup()):
            return None
        return tuple(Gpu(**item) for item in record["gpus"])
    except (LookupError, TypeError):
        return None


def refresh_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that llama.cpp lists now, and remember them.

    llama.cpp is asked in a child process, because a GPU driver may crash. Raises RuntimeFailed if
    the child gave no answer.
    """
    done, status = run_child("g4cli.runtime.llama.devices", timeout_s=PROBE_TIMEOUT_S)
    try:
        listed: list[dict[str, Any]] = json.loads(done.stdout)
    except ValueError as err:
        why = "no answer in time" if done.timed_out else f"exit status {status}"
        raise RuntimeFailed(
            f"llama.cpp could not list its devices: {why}", hint="g4 doctor"
        ) from err
    gpus = select_gpus(listed)
    record = {
        "library": engine_version(),
        "setup": describe_gpu_setup(),
        "gpus": [asdict(gpu) for gpu in gpus],
    }
    write_record(_gpu_file(), record)
    return gpus


def select_gpus(devices: Iterable[Mapping[str, Any]]) -> tuple[Gpu, ...]:
    """Return the GPUs among ggml's `devices` (`runtime.llama.devices.Device` as a mapping)."""
    return tuple(
        Gpu(
            d["name"],
            d["description"],
            d["total_bytes"],
            d["free_bytes"],
            unified=d["kind"] == "igpu" or sys.platform == "darwin",  # an Apple's GPU too
        )
        for d in devices
        if d["kind"] in ("gpu", "igpu")
    )

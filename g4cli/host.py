"""What this machine offers: memory within every limit, cores, disk, and the GPUs that were last seen.

    HostFacts.available_bytes = the least of
        MemAvailable of /proc/meminfo (macOS: free, inactive, speculative and purgeable pages)
        for every control group from ours to the root: its limit - what it uses that cannot be given back

Nothing here starts a process on Linux or loads a library, so that `g4 fit` answers at once. GPUs need
llama.cpp: `refresh_gpus` asks it in a child process and the answer is kept with its age.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from g4cli.core.child import run_child
from g4cli.core.errors import RuntimeFailed
from g4cli.core.files import existing_folder
from g4cli.core.paths import cache_dir, data_dir
from g4cli.core.records import read_record, write_record

PROBE_TIMEOUT_S: Final = 60
UNLIMITED: Final = 1 << 60  # control groups of version 1 write "no limit" as a huge number


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device of ggml's own list. `unified` shares the host's memory."""

    name: str
    description: str
    total_bytes: int
    free_bytes: int
    unified: bool = False


@dataclass(frozen=True, slots=True)
class GpuList:
    """The GPUs that llama.cpp saw `age_s` seconds ago, with the build of the library that saw them."""

    gpus: tuple[Gpu, ...]
    library: str
    age_s: float


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Facts about this machine; `limited_by` names what bounds the memory; `gpus` is None until probed."""

    total_bytes: int
    available_bytes: int
    limited_by: str
    n_cores: int
    disk_free_bytes: int
    cpu_features: frozenset[str]
    gpus: GpuList | None


def probe(root: Path = Path("/")) -> HostFacts:
    """Return the facts of this machine in a few milliseconds; `root` is where /proc and /sys are."""
    if sys.platform == "darwin":
        total, available, limited_by = _mac_memory(_output)
        n_cores = int(_output(["sysctl", "-n", "hw.physicalcpu"]))
        features = (
            frozenset({"neon", "dotprod"}) if platform.machine() == "arm64" else frozenset({"avx2"})
        )
    else:
        total, available, limited_by = linux_memory(root)
        n_cores = linux_cores(root, sorted(os.sched_getaffinity(0)))
        features = linux_cpu_features(root)
    return HostFacts(
        total,
        available,
        limited_by,
        n_cores,
        shutil.disk_usage(existing_folder(data_dir())).free,
        features,
        cached_gpus(),
    )


def linux_memory(root: Path) -> tuple[int, int, str]:
    """Return total and available bytes and the name of what bounds them: "memory" or a control group."""
    fields = {}
    for line in (root / "proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0]) * 1024
    total, limited_by = fields["MemTotal"], "memory"
    # MemAvailable is as old as Linux 3.14; before it, the page cache was the best guess.
    available = fields.get("MemAvailable", fields["MemFree"] + fields.get("Cached", 0))
    for folder, limit, usage, reclaimable in _cgroup_limits(root):
        if limit < total:
            total, limited_by = limit, f"control group {folder}"
        available = min(available, max(0, limit - usage + reclaimable))
    return total, available, limited_by


def _cgroup_limits(root: Path) -> Iterator[tuple[str, int, int, int]]:
    """Yield name, limit, usage and reclaimable bytes of each of our control groups that has a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        place = path.strip("/")
        # Inside a container the path may name a folder that only the host sees: its root is then ours.
        folders = [place, *(str(p) for p in Path(place).parents if str(p) != ".")] if place else []
        for folder in [*folders, ""]:
            found = _cgroup_limit(base / folder, *names)
            if found:
                yield ("/" + folder, *found)


def _cgroup_limit(
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


def linux_cores(root: Path, cpus: list[int]) -> int:
    """Return the physical cores behind the logical `cpus` that this process may use."""
    cores = set()
    for cpu in cpus:
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        try:
            cores.add(
                ((folder / "physical_package_id").read_text(), (folder / "core_id").read_text())
            )
        except OSError:
            cores.add((str(cpu), ""))  # no topology (some containers): every CPU counts
    return max(1, len(cores))


def linux_cpu_features(root: Path) -> frozenset[str]:
    """Return the words that the kernel uses for the first CPU's abilities: avx2, avx512f, asimddp."""
    try:
        text = (root / "proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, words = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(words.split())
    return frozenset()


def _mac_memory(output: Callable[[list[str]], str]) -> tuple[int, int, str]:
    total = int(output(["sysctl", "-n", "hw.memsize"]))
    lines = output(["vm_stat"]).splitlines()
    page = int(lines[0].split("page size of")[1].split()[0])
    pages = {}
    for line in lines[1:]:
        name, _, count = line.partition(":")
        pages[name.strip('" ')] = int(count.strip().rstrip(".") or 0)
    kinds = ("Pages free", "Pages inactive", "Pages speculative", "Pages purgeable")
    return total, min(total, page * sum(pages.get(kind, 0) for kind in kinds)), "memory"


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()


def engine_version() -> str | None:
    """Return the version of the installed llama-cpp-python, or None; nothing of it is imported.

    The name of its dist-info folder tells: reading the metadata itself costs 30 ms.
    """
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return None
    for folder in Path(spec.origin).parents[1].glob("llama_cpp_python-*.dist-info"):
        return folder.name.removeprefix("llama_cpp_python-").removesuffix(".dist-info")
    return None


def _gpu_file() -> Path:
    return cache_dir() / "devices.json"


def cached_gpus() -> GpuList | None:
    """Return the GPUs of the last probe, or None if there was none (or its record cannot be read)."""
    path = _gpu_file()
    record = read_record(path)
    try:
        gpus = tuple(Gpu(**item) for item in record["gpus"])
        return GpuList(gpus, str(record["library"]), max(0.0, time.time() - path.stat().st_mtime))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def refresh_gpus() -> GpuList:
    """Return the GPUs that llama.cpp sees now, asked in a child process, and remember them.

    Raises RuntimeFailed if the child died: a driver that crashes must not take g4 with it.
    """
    done, status = run_child("g4cli.runtime.llama.devices", timeout_s=PROBE_TIMEOUT_S)
    try:
        listed: list[dict[str, Any]] = json.loads(done.stdout)
    except ValueError as err:
        why = "no answer in time" if done.timed_out else f"exit status {status}"
        raise RuntimeFailed(
            f"llama.cpp could not list its devices: {why}", hint="g4 doctor"
        ) from err
    gpus = tuple(
        Gpu(
            d["name"],
            d["description"],
            d["total_bytes"],
            d["free_bytes"],
            unified=is_unified(d["kind"]),
        )
        for d in listed
        if d["kind"] in ("gpu", "igpu")
    )
    library = engine_version() or ""
    path = _gpu_file()
    write_record(path, {"library": library, "gpus": [asdict(g) for g in gpus]})
    return GpuList(gpus, library, 0.0)


def is_unified(kind: str) -> bool:
    """Return whether a device of ggml's `kind` takes its memory from the host: integrated, or Apple's."""
    return kind == "igpu" or sys.platform == "darwin"

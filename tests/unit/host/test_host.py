"""Memory, cores and features read from copies of the kernel's files: the ground truth is the file's
text.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from g4cli import host
from g4cli.core.errors import RuntimeFailed
from g4cli.core.paths import cache_dir
from g4cli.core.units import GIB, KIB, MIB

MEMINFO = """MemTotal:       16384000 kB
MemFree:         2048000 kB
MemAvailable:    8192000 kB
Buffers:          100000 kB
Cached:          4096000 kB
"""


def machine(root: Path, files: dict[str, str]) -> Path:
    """Return `root` with the kernel's files written into it."""
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_control_groups(tmp_path: Path) -> None:
    root = machine(tmp_path, {})
    assert host.linux_memory(root) == (16384000 * KIB, 8192000 * KIB, "memory")


def test_old_kernels_without_memavailable(tmp_path: Path) -> None:
    root = machine(
        tmp_path, {"proc/meminfo": "MemTotal: 1000 kB\nMemFree: 300 kB\nCached: 200 kB\n"}
    )
    assert host.linux_memory(root)[1] == 500 * KIB


def test_version_2_limit_of_a_parent_counts(tmp_path: Path) -> None:
    group = "sys/fs/cgroup"
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user/app\n",
            f"{group}/user/app/memory.max": "max\n",
            f"{group}/user/app/memory.current": "1\n",
            f"{group}/user/app/memory.stat": "inactive_file 0\n",
            f"{group}/user/memory.max": f"{4 * GIB}\n",
            f"{group}/user/memory.current": f"{3 * GIB}\n",
            f"{group}/user/memory.stat": f"anon 1\ninactive_file {1 * GIB}\n",
        },
    )
    # 4 GiB allowed, 3 used, of which 1 is page cache that the kernel gives back.
    assert host.linux_memory(root) == (4 * GIB, 2 * GIB, "control group /user")


def test_version_1_and_a_path_that_only_the_outside_sees(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory"
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/0123\n1:name=systemd:/\n",
            f"{group}/memory.limit_in_bytes": f"{512 * MIB}\n",
            f"{group}/memory.usage_in_bytes": f"{100 * MIB}\n",
            f"{group}/memory.stat": f"total_inactive_file {50 * MIB}\n",
        },
    )
    assert host.linux_memory(root) == (512 * MIB, 462 * MIB, "control group /")


def test_version_1_without_a_limit(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory"
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/\n",
            f"{group}/memory.limit_in_bytes": "9223372036854771712\n",
            f"{group}/memory.usage_in_bytes": "1\n",
            f"{group}/memory.stat": "\n",
        },
    )
    assert host.linux_memory(root)[2] == "memory"


def test_a_group_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    group = "sys/fs/cgroup"
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            f"{group}/memory.max": "1000\n",
            f"{group}/memory.current": "3000\n",
            f"{group}/memory.stat": "inactive_file 500\n",
        },
    )
    assert host.linux_memory(root)[1] == 0


def test_physical_cores_are_counted_once(tmp_path: Path) -> None:
    files = {}
    for cpu, core in enumerate((0, 1, 0, 1)):  # two cores, two threads each
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        files[f"{folder}/physical_package_id"] = "0\n"
        files[f"{folder}/core_id"] = f"{core}\n"
    root = machine(tmp_path, files)
    assert host.linux_cores(root, [0, 1, 2, 3]) == 2
    assert host.linux_cores(root, [1, 3]) == 1
    assert host.linux_cores(root, [7, 8]) == 2  # no topology: each counts


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse2 avx2\n", {"fpu", "sse2", "avx2"}),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\n", {"fp", "asimd", "asimddp"}),
        ("", set()),
    ],
)
def test_cpu_features(tmp_path: Path, text: str, wanted: set[str]) -> None:
    assert host.linux_cpu_features(machine(tmp_path, {"proc/cpuinfo": text})) == wanted


def test_mac_memory() -> None:
    answers = {
        "sysctl": str(16 * GIB),
        "vm_stat": "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                               1000.\n"
        "Pages active:                           300000.\n"
        "Pages inactive:                           2000.\n"
        "Pages speculative:                         300.\n"
        "Pages purgeable:                            40.\n"
        '"Translation faults":                  123456789.\n',
    }
    found = host._mac_memory(lambda command: answers[command[0]])
    assert found == (16 * GIB, 3340 * 16384, "memory")


def test_this_machine_is_plausible() -> None:
    facts = host.probe()
    assert 0 < facts.available_bytes <= facts.total_bytes
    assert 1 <= facts.n_cores <= (os.cpu_count() or 1)
    assert facts.disk_free_bytes >= 0
    assert facts.gpus is None  # nothing was probed in this test's home


def test_gpus_are_remembered_with_their_age() -> None:
    path = cache_dir() / "devices.json"
    path.parent.mkdir(parents=True)
    gpu = {"name": "CUDA0", "description": "A", "total_bytes": 8, "free_bytes": 7, "unified": False}
    path.write_text(json.dumps({"library": "build 1", "gpus": [gpu]}))
    os.utime(path, (time.time() - 100, time.time() - 100))
    found = host.cached_gpus()
    assert found is not None
    assert found.gpus == (host.Gpu("CUDA0", "A", 8, 7),)
    assert found.library == "build 1"
    assert 99 < found.age_s < 200


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"gpus": [{"name": 1}], "library": ""}', '{"gpus": []}']
)
def test_a_broken_record_counts_as_none(text: str) -> None:
    path = cache_dir() / "devices.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert host.cached_gpus() is None


def test_a_probe_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeFailed, match="could not list its devices"):
        host.refresh_gpus()

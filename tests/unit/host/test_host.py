"""Limits of memory, read from copies of the kernel's files, and the list of GPUs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from g4cli import host
from g4cli.core.child_memory import ChildOutput
from g4cli.core.paths import cache_dir
from g4cli.core.units import GIB, MIB

TOTAL, AVAILABLE = 16 * GIB, 8 * GIB
list_gpu_nodes = host.list_gpu_nodes  # g4's own: `no_gpu` in conftest.py replaces it in every test


def write_machine(root: Path, files: dict[str, str]) -> Path:
    """Return `root` with the kernel's files written into it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_control_groups(tmp_path: Path) -> None:
    root = write_machine(tmp_path, {})
    assert host.limit_memory(root, TOTAL, AVAILABLE) == (TOTAL, AVAILABLE, "memory")


def test_version_2_limit_of_a_parent_counts(tmp_path: Path) -> None:
    group = "sys/fs/cgroup"
    root = write_machine(
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
    assert host.limit_memory(root, TOTAL, AVAILABLE) == (4 * GIB, 2 * GIB, "control group /user")


def test_version_1_and_a_path_that_only_the_outside_sees(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory"
    # In a container: /docker/0123 is the host's path of the group, which is at / inside.
    root = write_machine(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/0123\n1:name=systemd:/\n",
            f"{group}/memory.limit_in_bytes": f"{512 * MIB}\n",
            f"{group}/memory.usage_in_bytes": f"{100 * MIB}\n",
            f"{group}/memory.stat": f"total_inactive_file {50 * MIB}\n",
        },
    )
    assert host.limit_memory(root, TOTAL, AVAILABLE) == (512 * MIB, 462 * MIB, "control group /")


def test_version_1_without_a_limit(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory"
    root = write_machine(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/\n",
            # What version 1 writes for "no limit": the largest s64 that is a multiple of a page.
            f"{group}/memory.limit_in_bytes": "9223372036854771712\n",
            f"{group}/memory.usage_in_bytes": "1\n",
            f"{group}/memory.stat": "\n",
        },
    )
    assert host.limit_memory(root, TOTAL, AVAILABLE)[2] == "memory"


def test_a_group_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    group = "sys/fs/cgroup"
    root = write_machine(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            f"{group}/memory.max": "1000\n",
            f"{group}/memory.current": "3000\n",
            f"{group}/memory.stat": "inactive_file 500\n",
        },
    )
    assert host.limit_memory(root, TOTAL, AVAILABLE)[1] == 0


def test_this_machine_is_plausible() -> None:
    facts = host.read_host()
    assert 0 < facts.available_bytes <= facts.total_bytes


class GpuMachine(NamedTuple):
    """A machine with a GPU: what `list_gpu_nodes` returns, and the times llama.cpp was asked.

    `nodes` are device files, then the driver's version. `asked` grows by one item each time.
    """

    nodes: list[str]
    asked: list[str]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> GpuMachine:
    """A machine with a GPU, which llama.cpp lists each time it is asked."""
    found = GpuMachine(["/dev/nvidia0", "535.1"], [])
    monkeypatch.setattr(host, "list_gpu_nodes", lambda: tuple(found.nodes))
    monkeypatch.setattr(host, "engine_version", lambda: "build 1")
    gpu = {"name": "CUDA0", "description": "A", "kind": "gpu", "total_bytes": 8, "free_bytes": 7}

    def run(module: str, **_: object) -> tuple[ChildOutput, int]:
        found.asked.append(module)
        text = json.dumps([gpu])
        return ChildOutput(text, "", timed_out=False, over_limit=False, peak_bytes=0), 0

    monkeypatch.setattr(host, "run_child", run)
    return found


def test_read_host_lists_gpus_once(machine: GpuMachine) -> None:
    for _ in range(3):
        found = host.read_host().gpus
        assert found is not None
        assert [gpu.name for gpu in found] == ["CUDA0"]
    assert len(machine.asked) == 1


@pytest.mark.parametrize("change", ["driver", "device", "library"])
def test_gpus_are_listed_again_when_something_changed(
    machine: GpuMachine, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.find_gpus()
    if change == "driver":
        machine.nodes[1] = "550.2"
    elif change == "device":
        machine.nodes.insert(1, "/dev/nvidia1")
    else:
        monkeypatch.setattr(host, "engine_version", lambda: "build 2")
    host.find_gpus()
    assert len(machine.asked) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="device files are Linux's")
def test_a_machine_without_device_files_is_not_probed(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.nodes.clear()
    assert host.find_gpus() == ()
    assert machine.asked == []
    monkeypatch.setattr(host, "engine_version", lambda: None)
    assert host.find_gpus() is None


def test_device_files_and_driver_versions_are_listed(tmp_path: Path) -> None:
    assert list_gpu_nodes(tmp_path) == ()
    for name, text in {
        "dev/nvidia0": "",
        "dev/nvidiactl": "",
        "dev/dri/renderD128": "",
        "proc/driver/nvidia/version": "NVRM version: 535.1\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = list_gpu_nodes(tmp_path)
    # Sorted by path. nvidiactl belongs to the driver: it is no GPU's device file.
    assert [Path(name).name for name in found[:2]] == ["renderD128", "nvidia0"]
    assert found[2:] == ("NVRM version: 535.1",)


def test_gpus_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "engine_version", lambda: "build 1")
    path = cache_dir() / "devices.json"
    path.parent.mkdir(parents=True)
    gpu = {"name": "CUDA0", "description": "A", "total_bytes": 8, "free_bytes": 7, "unified": False}
    path.write_text(
        json.dumps({"library": "build 1", "setup": host.describe_gpu_setup(), "gpus": [gpu]})
    )
    assert host.cached_gpus() == (host.Gpu("CUDA0", "A", 8, 7),)
    monkeypatch.setattr(host, "engine_version", lambda: "build 2")
    assert host.cached_gpus() is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"gpus": [{"name": 1}], "library": ""}', '{"gpus": []}']
)
def test_a_broken_record_counts_as_none(text: str) -> None:
    path = cache_dir() / "devices.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert host.cached_gpus() is None

"""Check that the largest context which `g4 fit` proposes runs under a memory limit (Linux, root).

    python tests/bench/largest.py /tmp/e2b.gguf 4.4 [WORDS of the prompt]

Creates a control group with that many GiB and no swap, runs `g4 fit --ctx max` in it, and chats in
it with that context; a wrong figure would end with an out-of-memory kill. Prints the context, the
group's peak and the exit code. A context that is 10 % larger must not fit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

GIB = 1024**3
G4 = str(Path(sys.executable).with_name("g4"))
WORDS = 150  # more than one ubatch
EXIT_DOES_NOT_FIT = 4


def make_group(limit: int) -> tuple[Path, Path, str]:
    """Return a new control group's folder, its file of processes, and the name of its peak file."""
    folder, limit_name, peak = Path("/sys/fs/cgroup/g4-largest"), "memory.max", "memory.peak"
    if not Path("/sys/fs/cgroup/cgroup.controllers").is_file():
        folder = Path("/sys/fs/cgroup/memory/g4-largest")
        limit_name, peak = "memory.limit_in_bytes", "memory.max_usage_in_bytes"
    folder.mkdir(exist_ok=True)
    (folder / limit_name).write_text(str(limit))
    return folder, folder / "cgroup.procs", peak


def drop_cached_pages(file: str) -> None:
    """Drop the file from the page cache: pages that another group read would not count here."""
    descriptor = os.open(file, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def run_inside(procs: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run g4 in the group."""
    return subprocess.run(
        [G4, *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: procs.write_text(str(os.getpid())),
    )


def main() -> int:
    """Return 0 if the chat with the largest context ended without an error."""
    file, limit = sys.argv[1], int(float(sys.argv[2]) * GIB)
    words = int(sys.argv[3]) if len(sys.argv) > 3 else WORDS
    prompt = " ".join(f"word{i % 97} and" for i in range(words))
    drop_cached_pages(file)
    folder, procs, peak = make_group(limit)
    try:
        plan = json.loads(run_inside(procs, "fit", file, "--ctx", "max", "--json").stdout)
        n_ctx, needed = plan["largest_ctx"], plan["total_bytes"] / GIB
        print(
            f"limit {limit / GIB:.2f} GiB: {n_ctx:,} tokens need {needed:.2f} GiB; {plan['reason']}"
        )
        if n_ctx == plan["n_ctx_train"]:
            print("that is all that the model was made for: take a smaller limit")
            return 1
        more = run_inside(procs, "fit", file, "--ctx", str(n_ctx * 11 // 10), "--json")
        print(f"a tenth more: exit {more.returncode}; {json.loads(more.stdout)['reason']}")
        chat = (
            "chat",
            file,
            "--ctx",
            str(n_ctx),
            "-n",
            "3",
            "--no-loop-stop",
            "--json",
            "-p",
            prompt,
        )
        done = run_inside(procs, *chat)
        used = int((folder / peak).read_text()) / GIB
        print(
            f"g4 chat --ctx {n_ctx}: exit {done.returncode}; peak {used:.2f} GiB with the page "
            "cache"
        )
        if done.returncode:
            print(done.stderr[-500:])
        return done.returncode or int(more.returncode != EXIT_DOES_NOT_FIT)
    finally:
        folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())

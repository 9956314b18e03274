"""Compare the peak resident memory of `g4 chat` with the estimate of `g4 fit`.

    python -m tests.support.builders.real_shapes e2b q4_0 /tmp/e2b.gguf --weights random
    python tests/bench/resident.py /tmp/e2b.gguf [CASE ...]

Each case processes a prompt of more than one ubatch (so that every buffer is touched) and answers a
few tokens. Measured are the worker that holds the model and the process that holds the
conversation. The ratio of estimated to measured memory must be between 0.97 and 1.10. Linux only.
With 2 cores a case takes about a minute; with --words 10 it takes 10 s, but most of the compute
buffer stays untouched (2 to 4 % of the total).
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
from itertools import product
from pathlib import Path

CASES = tuple(
    f"--ctx {n_ctx} {mmap} --lazy-ple {lazy} --kv-type {kind}"
    for n_ctx, mmap, lazy, kind in product(
        (4096, 32768), ("--mmap", "--no-mmap"), ("off", "on"), ("f16", "q8_0")
    )
)
G4 = str(Path(sys.executable).with_name("g4"))
LOW, HIGH = 0.97, 1.10


def estimate_memory(path: Path, case: str, draft: str) -> int:
    """Return the resident bytes that `g4 fit` expects."""
    command = [G4, "fit", str(path), *case.split(), "--draft", draft, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(json.loads(done.stdout)["resident_bytes"])


def measure_memory(path: Path, case: str, words: int, draft: str) -> tuple[int, int]:
    """Return the peaks of the resident bytes of one run of `g4 chat`: the worker's and the front's.

    The front waits for its worker, so the kernel's figure for it (ru_maxrss of wait4) is the larger
    of both, the worker's. The front's own is VmHWM, read while it runs.
    """
    prompt = " ".join(f"word{i % 97} and" for i in range(words))
    command = [G4, "chat", str(path), *case.split(), "--draft", draft]
    command += ["-n", "3", "--no-loop-stop", "--seed", "1", "--json", "-p", prompt]
    front = 0
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout
        while not select.select([child.stdout], [], [], 0.05)[0]:
            front = max(front, peak_bytes(child.pid))
        answer = json.loads(child.stdout.read())
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert answer["usage"]["prompt_tokens"] > 3 * words, answer["usage"]
    return usage.ru_maxrss * 1024, front


def peak_bytes(pid: int) -> int:
    """Return VmHWM of /proc/PID/status, 0 once the process has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(row.split()[1]) * 1024 for row in status.splitlines() if "VmHWM" in row), 0)


def main() -> int:
    """Print one row per case; return 1 if one is out of bounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("case", nargs="*", type=int, help=f"0 to {len(CASES) - 1}; none: all")
    parser.add_argument("--words", type=int, default=150, help="of the prompt; 150 fill a ubatch")
    parser.add_argument("--draft", default="auto", help="as g4 chat takes it: off, lookup, a file")
    args = parser.parse_args()
    bad = 0
    for case in [CASES[i] for i in args.case] or CASES:
        expected = estimate_memory(args.file, case, args.draft)
        worker, front = measure_memory(args.file, case, args.words, args.draft)
        found = worker + front
        ratio = expected / found
        bad += not LOW <= ratio <= HIGH
        mib = 1024**2
        print(
            f"{case:55} {expected / mib:8.0f} {worker / mib:8.0f} + {front / mib:3.0f} MiB  "
            f"{ratio:.3f}",
            flush=True,
        )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())

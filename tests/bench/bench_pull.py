"""Compare g4's downloads with curl's, and kill them 50 times, from a hub on the loopback address.

    python tests/bench/bench_pull.py speed [--mib 2048] [--rounds 5] [--settle 4] [--folder DIR]
    python tests/bench/bench_pull.py kills [--mib 64] [--kills 50] [--rate 32] [--folder DIR]

speed: the same file, in turn, from a server process that sends with sendfile:

    curl     curl -o FILE: no hash, no flush; the file is in memory when it ends, not on the disk
    hashing  curl | tee FILE | sha256sum: the same work as g4's, but for the flush
    g4       sha256 included, the file flushed to the disk and renamed
    hash     the rate at which one core hashes the file from memory

The bar is 0.9 of the smaller of curl and hash. The three begin every round in another order, each
with its file removed and (--settle) some seconds after the last: a page of a virtual machine that
the host has taken back costs several times as much to fill as one that another download has just
warmed. --settle 0 is the warm case. Peak memory is the child's own (VmHWM).

kills: a server of 32 MiB/s, or of --rate; g4 is killed at 50 random moments of its transfer. The
file must arrive whole, and the server must not have sent more than 1.05 of its size and 1 MiB for
each kill.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing import Process, Queue
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.fakes.hub import FakeHub, FakeRepo, Handler, running

REPO = "bench/file-GGUF"
CHILD = """
import json, sys, time
from pathlib import Path
from g4cli.hub import Fetch, Hub
client = Hub()
repository = client.read_repository(sys.argv[1])
started = time.perf_counter()
done = Fetch(client, repository, repository.files[0], Path(sys.argv[2])).run()
seconds = time.perf_counter() - started
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps([seconds, peak, done.origin]))
"""


class FileHub(FakeHub):
    """A hub with one LFS file, which it sends from the disk."""

    def __init__(self, path: Path, sha: str) -> None:
        super().__init__(repos={REPO: FakeRepo(lfs={})})
        self.path, self.sha, self.size = path, sha, path.stat().st_size


class FileHandler(Handler):
    """Sends the file with sendfile, so that the server is not the bottleneck."""

    hub: FileHub

    def tree(self, *_: object) -> None:
        lfs = {"oid": self.hub.sha, "size": self.hub.size, "pointerSize": 130}
        self.json(
            [
                {
                    "type": "file",
                    "oid": "e" * 40,
                    "size": self.hub.size,
                    "path": "m-Q4_0.gguf",
                    "lfs": lfs,
                }
            ]
        )

    def resolve(self, *_: object) -> None:
        where = f"http://localhost:{self.hub.port}/storage/x"
        linked = {"X-Linked-Etag": f'"{self.hub.sha}"', "X-Linked-Size": str(self.hub.size)}
        self.answer(
            302, b"", {**linked, "X-Repo-Commit": "c" * 40, "Location": where, "ETag": '"p"'}
        )

    def storage(self, *_: object) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(match[1]), int(match[2]) + 1) if match else (0, self.hub.size)
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{self.hub.size}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.wfile.flush()
        with self.hub.path.open("rb") as file:
            while start < end:
                sent = os.sendfile(
                    self.connection.fileno(), file.fileno(), start, min(1 << 24, end - start)
                )
                if not sent:
                    return
                start += sent

    def setup(self) -> None:
        # The usual buffers: Handler's small ones are for counting bytes.
        super(Handler, self).setup()


def serve(path: Path, sha: str, queue: Queue[int]) -> None:
    hub = FileHub(path, sha)
    with running(hub, FileHandler):
        queue.put(hub.port)
        time.sleep(1e6)


def hash_rate(path: Path) -> float:
    """Return bytes per second of one core hashing the file from the page cache."""
    digest, done, started = hashlib.sha256(), 0, time.perf_counter()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            done += len(piece)
    return done / (time.perf_counter() - started)


def fetched_by_curl(port: int, target: Path, _: dict[str, str]) -> float:
    command = ["curl", "-s", "-o", target, f"http://localhost:{port}/storage/x"]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started


def hashed_by_curl(port: int, target: Path, _: dict[str, str]) -> float:
    command = f"curl -s http://localhost:{port}/storage/x | tee '{target}' | sha256sum"
    started = time.perf_counter()
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


peaks: list[float] = []


def fetched_by_g4(_: int, target: Path, environment: dict[str, str]) -> float:
    done: Any = subprocess.run(
        [sys.executable, "-c", CHILD, REPO, target],
        env=environment,
        capture_output=True,
        check=True,
    )
    seconds, peak, origin = json.loads(done.stdout)
    assert origin == "hub"
    peaks.append(peak)
    return seconds


WAYS = {"curl": fetched_by_curl, "hashing": hashed_by_curl, "g4": fetched_by_g4}


def write_source(path: Path, mib: int) -> str:
    """Write `mib` MiB of random bytes and return their sha256."""
    digest, block = hashlib.sha256(), os.urandom(1 << 20)
    with path.open("wb") as file:
        for n in range(mib):
            piece = n.to_bytes(8, "little") + block[8:]
            digest.update(piece)
            file.write(piece)
        os.fsync(file.fileno())
    return digest.hexdigest()


def cpu_seconds(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def speed(folder: Path, mib: int, rounds: int, settle: float) -> None:
    source, target = folder / "source.bin", folder / "target.bin"
    queue: Queue[int] = Queue()
    server = Process(target=serve, args=(source, write_source(source, mib), queue), daemon=True)
    server.start()
    port = queue.get(timeout=30)
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "G4_HOME": str(folder / "home"),
        "HF_HOME": str(folder / "hf"),
    }
    rates: dict[str, list[float]] = {name: [] for name in (*WAYS, "hash")}
    work: dict[str, list[float]] = {name: [] for name in (*WAYS, "hash")}
    order = list(WAYS)
    try:
        for _ in range(rounds):
            for name in order:
                target.unlink(missing_ok=True)
                time.sleep(settle)  # what was freed goes back to the host, for all alike
                before = cpu_seconds(resource.RUSAGE_CHILDREN)
                rates[name].append(mib / WAYS[name](port, target, environment))
                work[name].append(cpu_seconds(resource.RUSAGE_CHILDREN) - before)
            order.append(order.pop(0))
            before = cpu_seconds(resource.RUSAGE_SELF)
            rates["hash"].append(hash_rate(source) / 2**20)
            work["hash"].append(cpu_seconds(resource.RUSAGE_SELF) - before)
            print(
                "  ".join(f"{name} {values[-1]:6.0f} MiB/s" for name, values in rates.items()),
                flush=True,
            )
    finally:
        server.kill()
        for path in (source, target):
            path.unlink(missing_ok=True)
    ratios = [
        g / min(c, h) for g, c, h in zip(*(rates[k] for k in ("g4", "curl", "hash")), strict=True)
    ]
    middle = {name: median(values) for name, values in rates.items()}
    overall = middle["g4"] / min(middle["curl"], middle["hash"])
    print(f"median of {rounds}: {', '.join(f'{k} {v:.0f} MiB/s' for k, v in middle.items())}")
    print(
        f"CPU seconds per GiB: "
        f"{', '.join(f'{k} {median(v) * 1024 / mib:.2f}' for k, v in work.items())}"
    )
    print(
        f"g4 / min(curl, hash): {overall:.2f} of the medians, {median(ratios):.2f} the median of "
        "the rounds"
    )
    print(f"g4 / hashing: {middle['g4'] / middle['hashing']:.2f}; peak memory {max(peaks):.0f} MiB")


def kills(folder: Path, mib: int, count: int, rate_mib: int) -> None:
    data, target = os.urandom(mib << 20), folder / "target.gguf"
    hub = FakeHub(repos={REPO: FakeRepo(lfs={"m-Q4_0.gguf": data})}, rate=rate_mib * 2**20)
    random.seed(8)
    hits = 0
    with running(hub):
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "G4_HOME": str(folder / "home"),
            "HF_HOME": str(folder / "hf"),
        }
        command = [sys.executable, "-c", CHILD, REPO, str(target)]
        while hits < count and not target.exists():
            before = hub.sent_bytes
            child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            while hub.sent_bytes == before and child.poll() is None:
                time.sleep(0.002)
            # Spread so that the last kill falls near the end of the file.
            time.sleep(random.uniform(0, 2 * mib / rate_mib / (count + 4)))
            hits += child.poll() is None
            child.kill()
            child.wait()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    whole = target.read_bytes() == data
    target.unlink()
    limit = 1.05 * len(data) + hits * 2**20
    share, lost = hub.sent_bytes / len(data), (hub.sent_bytes - len(data)) / max(1, hits) / 1024
    print(
        f"{hits} kills: the file is {'whole' if whole else 'WRONG'}; {share:.3f} of its size was "
        "sent"
    )
    print(f"lost per kill: {lost:.0f} KiB; the limit was {limit / len(data):.3f}")
    sys.exit(not (whole and hub.sent_bytes <= limit))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["speed", "kills"])
    parser.add_argument("--mib", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument(
        "--settle", type=float, default=4, help="seconds between two downloads of speed"
    )
    parser.add_argument(
        "--rate", type=int, default=32, help="of the server that kills meets, in MiB/s"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="the files lie in a folder made in here"
    )
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-pull-", dir=args.folder) as folder:
        if args.what == "speed":
            speed(Path(folder), args.mib or 2048, args.rounds, args.settle)
        else:
            kills(Path(folder), args.mib or 64, args.kills, args.rate)


if __name__ == "__main__":
    main()

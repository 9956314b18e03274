"""g4's transfer beside curl's, and 50 kills -9: from a hub on the loopback address.

    python tests/bench/bench_pull.py speed [--mib 2048] [--rounds 5] [--folder DIR]
    python tests/bench/bench_pull.py kills [--mib 64] [--kills 50] [--folder DIR]

speed: the same file, in turn, by curl (no hash) and by g4 (sha256 included), from a server that sends with
sendfile. What g4 can reach is the smaller of curl's rate and the rate at which one core hashes. Peak memory
is the child's own (VmHWM).

kills: a server of 32 MiB/s; g4 is killed at 50 random moments of its transfer. The file must arrive whole,
and the server must not have sent more than 1.05 of its size and 1 MiB for each kill.
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
import time
from multiprocessing import Process, Queue
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fakes_hub import FakeHub, FakeRepo, Handler, running

REPO = "bench/file-GGUF"
CHILD = """
import json, sys, time
from pathlib import Path
from g4cli.hub import Hub, fetch_file
client = Hub()
repository = client.repository(sys.argv[1])
started, cpu = time.perf_counter(), time.process_time()
done = fetch_file(client, repository, repository.files[0], Path(sys.argv[2]))
seconds = time.perf_counter() - started
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps([seconds, time.process_time() - cpu, peak, done.origin]))
"""


class FileHub(FakeHub):
    """A hub whose one LFS file lies on disk."""

    def __init__(self, path: Path, sha: str) -> None:
        super().__init__(repos={REPO: FakeRepo(lfs={})})
        self.path, self.sha, self.size = path, sha, path.stat().st_size


class FileHandler(Handler):
    """Sends the file with sendfile: the server must not be what is measured."""

    hub: FileHub

    def tree(self, *_: object) -> None:
        lfs = {"oid": self.hub.sha, "size": self.hub.size, "pointerSize": 130}
        self.json(
            [{"type": "file", "oid": "e" * 40, "size": self.hub.size, "path": "m-Q4_0.gguf", "lfs": lfs}]
        )

    def resolve(self, *_: object) -> None:
        where = f"http://localhost:{self.hub.port}/storage/x"
        linked = {"X-Linked-Etag": f'"{self.hub.sha}"', "X-Linked-Size": str(self.hub.size)}
        self.answer(302, b"", {**linked, "X-Repo-Commit": "c" * 40, "Location": where, "ETag": '"p"'})

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
                sent = os.sendfile(self.connection.fileno(), file.fileno(), start, min(1 << 24, end - start))
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


def speed(folder: Path, mib: int, rounds: int) -> None:
    source, target = folder / "source.bin", folder / "target.bin"
    digest = hashlib.sha256()
    with source.open("wb") as file:
        block = os.urandom(1 << 20)
        for n in range(mib):
            piece = n.to_bytes(8, "little") + block[8:]
            digest.update(piece)
            file.write(piece)
    queue: Queue[int] = Queue()
    server = Process(target=serve, args=(source, digest.hexdigest(), queue), daemon=True)
    server.start()
    port = queue.get(timeout=30)
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "G4_HOME": str(folder / "home"),
        "HF_HOME": str(folder / "hf"),
    }
    rates: dict[str, list[float]] = {"curl": [], "g4": [], "hash": []}
    work: dict[str, list[float]] = {"curl": [], "g4": []}
    peaks: list[float] = []
    try:
        for _ in range(rounds):
            target.unlink(missing_ok=True)
            command = [
                "curl",
                "-s",
                "-o",
                target,
                "-w",
                "%{time_total}",
                f"http://localhost:{port}/storage/x",
            ]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            rates["curl"].append(mib / seconds)
            work["curl"].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            target.unlink()
            done: Any = subprocess.run(
                [sys.executable, "-c", CHILD, REPO, target], env=environment, capture_output=True, check=True
            )
            seconds, cpu, peak, origin = json.loads(done.stdout)
            work["g4"].append(cpu)
            assert origin == "hub"
            rates["g4"].append(mib / seconds)
            peaks.append(peak)
            started = time.process_time()
            rates["hash"].append(hash_rate(source) / 2**20)
            work.setdefault("hash", []).append(time.process_time() - started)
            print("  ".join(f"{name} {values[-1]:7.0f} MiB/s" for name, values in rates.items()), flush=True)
    finally:
        server.kill()
        for path in (source, target):
            path.unlink(missing_ok=True)
    ratios = [g / min(c, h) for g, c, h in zip(*(rates[k] for k in ("g4", "curl", "hash")), strict=True)]
    print(f"median: {', '.join(f'{k} {median(v):.0f} MiB/s' for k, v in rates.items())}")
    print(f"CPU seconds per GiB: {', '.join(f'{k} {median(v) * 1024 / mib:.2f}' for k, v in work.items())}")
    print(f"g4 / min(curl, hash), median of {rounds}: {median(ratios):.2f}; peak memory {max(peaks):.0f} MiB")


def kills(folder: Path, mib: int, count: int) -> None:
    data, target = os.urandom(mib << 20), folder / "target.gguf"
    hub = FakeHub(repos={REPO: FakeRepo(lfs={"m-Q4_0.gguf": data})}, rate=32 * 2**20)
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
            time.sleep(random.uniform(0, 2 * mib / 32 / (count + 4)))
            hits += child.poll() is None
            child.kill()
            child.wait()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    whole = target.read_bytes() == data
    target.unlink()
    limit = 1.05 * len(data) + hits * 2**20
    share, lost = hub.sent_bytes / len(data), (hub.sent_bytes - len(data)) / max(1, hits) / 1024
    print(f"{hits} kills: the file is {'whole' if whole else 'WRONG'}; {share:.3f} of its size was sent")
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
    parser.add_argument("--folder", type=Path, default=Path("bench-pull"))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.what == "speed":
        speed(args.folder, args.mib or 2048, args.rounds)
    else:
        kills(args.folder, args.mib or 64, args.kills)


if __name__ == "__main__":
    main()

"""A server under mixed and hostile load: nothing may hang, grow, or be left behind.

    python tests/bench/soak_serve.py FILE [--requests 10000] [--kills 50] [--clients 8]

Starts `g4 serve FILE` as a process of its own and sends it, from several clients at once, good
requests of all APIs, bodies that are no JSON or have wrong fields, clients that go away in the
middle of an answer, that send letter by letter, and that read slowly. Every request must get its
status (200, or 400 for a bad one; 503 is tried again). Then the model's process is killed (SIGKILL)
under load, so many times: no request may hang, and the server must answer within 5 s of each.
Asserts all that, and that neither sockets, files nor processes are left; prints JSON with the
memory of the front process before and after. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

TIMEOUT_S = 120.0
MAX_S = 5.0  # from a kill to the next answer
MESSAGES = [{"role": "user", "content": "What is GGUF?"}]
GOOD: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 8}),
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 8, "stream": True}),
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 2, "logprobs": True}),
    ("/v1/completions", {"prompt": "GGUF is", "max_tokens": 8}),
    ("/v1/responses", {"input": "What is GGUF?", "max_output_tokens": 16}),
    ("/v1/messages", {"model": "m", "messages": MESSAGES, "max_tokens": 8, "stream": True}),
    ("/v1/messages/count_tokens", {"model": "m", "messages": MESSAGES}),
    ("/api/chat", {"model": "m", "messages": MESSAGES, "options": {"num_predict": 8}}),
    ("/api/generate", {"model": "m", "prompt": "What?", "options": {"num_predict": 8}}),
    ("/tokenize", {"content": "What is GGUF? " * 50}),
    ("/completion", {"prompt": "GGUF is", "n_predict": 8}),
)
BAD: tuple[tuple[str, bytes], ...] = (
    ("/v1/chat/completions", b"{"),
    ("/v1/chat/completions", b'{"messages": 1}'),
    ("/v1/chat/completions", b'{"messages": [], "no_such_field": 1}'),
    ("/v1/messages", b'{"model": "m"}'),
    ("/api/chat", b"[]"),
    ("/tokenize", b'{"content": 7}'),
)
LONG = {"messages": MESSAGES, "max_tokens": 400, "stream": True, "ignore_eos": True}


class Client:
    """Plain HTTP/1.1, one connection a request."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.counts: Counter[str] = Counter()

    async def send(self, path: str, body: bytes, *, piece: int = 0) -> tuple[Any, Any]:
        """Return reader and writer; `piece`: bytes that are sent at once, 0: all."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        data = f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        for start in range(0, len(data), piece or len(data)):
            writer.write(data[start : start + (piece or len(data))])
            await writer.drain()
            if piece:
                await asyncio.sleep(0.002)
        return reader, writer

    async def ask(self, path: str, body: bytes, *, piece: int = 0, slow: bool = False) -> int:
        """Return the status, with the whole answer read."""
        reader, writer = await self.send(path, body, piece=piece)
        try:
            status = int((await reader.readline()).split()[1])
            while await reader.read(16 if slow else 1 << 16):
                if slow:
                    await asyncio.sleep(0.001)
            return status
        finally:
            writer.close()

    async def leave(self, path: str, body: bytes) -> int:
        """Go away in the middle of an answer."""
        reader, writer = await self.send(path, body)
        await reader.readline()
        await reader.read(100)
        writer.transport.abort()
        return 0

    async def run_one(self, kind: str) -> None:
        """Send a request of that kind until it is not refused for lack of room."""
        if kind == "bad":
            path, body = random.choice(BAD)
            status, expected = await self.ask(path, body), 400
        elif kind == "leave":
            status, expected = (
                await self.leave("/v1/chat/completions", json.dumps(LONG).encode()),
                0,
            )
        else:
            path, fields = random.choice(GOOD)
            data = {key: value for key, value in fields.items() if value != "m" or key != "model"}
            data |= {"model": MODEL} if "model" in fields else {}
            expected = 200
            while True:
                status = await self.ask(
                    path,
                    json.dumps(data).encode(),
                    piece=16 if kind == "slow-sender" else 0,
                    slow=kind == "slow-reader",
                )
                if status != 503:
                    break
                self.counts["503"] += 1
                await asyncio.sleep(0.1)
            kind = f"{kind} {path}" if status != 200 else kind
        assert status == expected, (kind, status)
        self.counts[kind] += 1


MODEL = "tiny"
FOLDER = Path(tempfile.mkdtemp(prefix="soak-"))
KINDS = ("good",) * 12 + ("bad",) * 3 + ("leave",) * 3 + ("slow-sender", "slow-reader")


def describe(process: psutil.Process) -> dict[str, int]:
    """Return what the server holds."""
    sockets = [c for c in process.net_connections() if c.status == psutil.CONN_ESTABLISHED]
    return {
        "front_kib": process.memory_info().rss // 1024,
        "files": process.num_fds() - len(sockets),
        "sockets": len(sockets),
        "children": len(process.children(recursive=True)),
        "media": len(list(FOLDER.glob("g4-serve-*/*"))),
    }


async def run_requests(client: Client, count: int, n_clients: int) -> float:
    """Return the seconds that `count` requests took."""
    left = [random.choice(KINDS) for _ in range(count)]
    started = time.perf_counter()

    async def work() -> None:
        while left:
            await asyncio.wait_for(client.run_one(left.pop()), TIMEOUT_S)

    await asyncio.gather(*(work() for _ in range(n_clients)))
    return time.perf_counter() - started


async def kill_model(client: Client, server: psutil.Process, n_clients: int) -> float:
    """Kill the model's process while clients read; return the seconds until the next answer."""
    body = json.dumps(LONG).encode()
    load = [asyncio.create_task(client.ask("/v1/chat/completions", body)) for _ in range(n_clients)]
    await asyncio.sleep(random.uniform(0.05, 0.4))
    for child in server.children():
        if "engine.worker" in " ".join(child.cmdline()):
            os.kill(child.pid, signal.SIGKILL)
    killed = time.perf_counter()
    path, fields = GOOD[0]
    while await client.ask(path, json.dumps(fields).encode()) != 200:
        await asyncio.sleep(0.02)
    seconds = time.perf_counter() - killed
    statuses = await asyncio.wait_for(asyncio.gather(*load), TIMEOUT_S)
    assert set(statuses) <= {200, 500, 503}, statuses
    return seconds


async def soak(port: int, server: psutil.Process, args: argparse.Namespace) -> dict[str, Any]:
    client = Client(port)
    await run_requests(client, 300, args.clients)  # caches fill
    await asyncio.sleep(1)
    before = describe(server)
    seconds = await run_requests(client, args.requests, args.clients)
    await asyncio.sleep(2)
    after = describe(server)
    for name in ("files", "sockets", "children", "media"):
        assert after[name] <= before[name], (name, before, after)
    found = {"requests": args.requests, "seconds": seconds, "before": before, "after": after}
    again = [await kill_model(client, server, args.clients) for _ in range(args.kills)]
    if again:
        await asyncio.sleep(2)
        rest = describe(server)
        assert rest["children"] <= after["children"], (after, rest)
        median = statistics.median(again)
        found |= {"kills": len(again), "median_s": median, "most_s": max(again), "at_end": rest}
    return {**found, "counts": dict(client.counts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    args = parser.parse_args()
    random.seed(1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    g4 = str(Path(sys.executable).with_name("g4"))
    command = [g4, "serve", str(args.file), "--port", str(port), "--parallel", "4", "--ctx", "2048"]
    with subprocess.Popen(
        [*command, "--alias", MODEL],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(FOLDER)},
    ) as child:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    assert child.poll() is None, "the server did not start"
                    time.sleep(0.2)
            time.sleep(2)
            found = asyncio.run(soak(port, psutil.Process(child.pid), args))
        finally:
            children = psutil.Process(child.pid).children(recursive=True)
            child.send_signal(signal.SIGINT)
            child.wait(30)
    assert not [each for each in children if each.is_running()], "processes are left"
    FOLDER.rmdir()  # fails if a file is left
    print(json.dumps(found, indent=1))
    assert found.get("most_s", 0) < MAX_S, "the server did not answer in time after a kill"


if __name__ == "__main__":
    main()

"""Many clients at once: `g4 serve` beside llama-server of the same sources, on the same file.

    python tests/bench/bench_serve.py FILE [--llama-server PATH] [--clients 1,2,4,8] [--tokens 64]
        [--prompt 512] [--long 4000] [--threads N] [--rounds 1] [--only g4|llama-server]

FILE is a model, best of real shape (tests/support/builders/real_shapes.py e2b q4_0 FILE --weights
random). Both are asked through HTTP for streamed completions of token ids, by the same client. Both
get as many slots as the most clients, the same context, threads and greedy sampling, and no token
ends an answer. Prompts differ from each other, so that nothing is found in memory. Both servers run
all the time and are asked in turns, figure by figure, so that a machine that gets slower or faster
meanwhile does so for both; who is asked first changes from round to round. Of several rounds the
median counts. Prints one JSON document, whose last part, `ratio`, holds the medians of g4's figures
divided by llama-server's of the same round:

    answer_tps        answer tokens per second of all clients together, by number of clients
    cpu_ms            processor time of the process that holds the sockets, per answer token, by
                      number of clients (of llama-server: of the whole server)
    front_mib         resident memory of that process at the end
    first_token_ms    an empty server, a prompt of --prompt tokens: best of three
    longest_pause_ms  between two tokens of a running answer, while another client sends --long
                      tokens; and how long that prompt took
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.core.gguf import read_header
from g4cli.core.shape import shape_of


class Server:
    """A server that is asked for completions as streams of events.

    llama-server is asked in its own form (/completion), which costs it less than OpenAI's; g4 in
    OpenAI's, where it takes the option not to stop at loops.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, port: int) -> None:
        self._process, self._port = process, port
        self._path = "/v1/completions" if name == "g4" else "/completion"
        self._more = {"g4": {"stop_on_loop": False}} if name == "g4" else {}
        self.front = psutil.Process(process.pid)

    @classmethod
    async def start(cls, name: str, args: argparse.Namespace, n_slots: int) -> Server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        if name == "g4":
            command = [
                Path(sys.executable).with_name("g4"), "serve", args.file, "--port", str(port),
                "--parallel", str(n_slots), "--ctx", str(args.ctx), "--threads", str(args.threads),
            ]  # fmt: skip
        else:
            threads = ["-t", str(args.threads)] if args.threads else []
            command = [
                args.llama_server, "-m", args.file, "--port", str(port), "-np", str(n_slots),
                "-c", str(args.ctx * n_slots), "-fa", "auto", "--no-webui", *threads,
            ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "XDG_CACHE_HOME": args.cache},
        )
        server = cls(name, process, port)
        while process.returncode is None:
            try:
                reader, writer = await server._send("GET", "/health")
            except OSError:
                await asyncio.sleep(0.2)
                continue
            status = await reader.readline()
            writer.close()
            if b"200" in status:
                return server
            await asyncio.sleep(0.2)
        raise SystemExit(f"{command[0]} ended with status {process.returncode}")

    async def _send(
        self, method: str, path: str, body: str = ""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        return reader, writer

    async def answer(self, prompt: Sequence[int], n_tokens: int) -> AsyncIterator[None]:
        """Yield once for every event of an answer."""
        body = {
            "prompt": list(prompt), "n_predict": n_tokens, "temperature": 0, "stream": True,
            "ignore_eos": True, **self._more,
        }  # fmt: skip
        reader, writer = await self._send("POST", self._path, json.dumps(body))
        try:
            if b" 200 " not in await reader.readline():
                raise SystemExit((await reader.read(1000)).decode())
            while line := await reader.readline():
                if line.startswith(b"data:"):
                    if b'"stop":true' in line or b'"finish_reason":"' in line:
                        return
                    yield
        finally:
            writer.close()

    def read_cpu_s(self) -> float:
        """Return the processor time of all threads: in nanoseconds where Linux tells them."""
        threads = Path(f"/proc/{self.front.pid}/task").glob("*/schedstat")
        nanoseconds = [int(each.read_text().split()[0]) for each in threads]
        if nanoseconds:
            return sum(nanoseconds) / 1e9
        times = self.front.cpu_times()
        return float(times.user + times.system)

    async def close(self) -> None:
        self._process.terminate()
        await self._process.wait()


def make_prompt(n_tokens: int, n_vocab: int) -> list[int]:
    """Return tokens of text in random order behind a BOS."""
    return [2, *(random.randrange(n_vocab // 4, n_vocab // 2) for _ in range(n_tokens - 1))]


async def collect_times(events: AsyncIterator[None]) -> list[float]:
    return [time.perf_counter() async for _ in events]


async def measure_answers(server: Server, n_clients: int, args: argparse.Namespace) -> float:
    """Return tokens per second of all clients, from when all answer until the first one ends.

    A token that ends in the middle of a character has no event: each event counts for as many
    tokens as the answer has on the average.
    """
    answers = [server.answer(make_prompt(64, args.n_vocab), args.tokens) for _ in range(n_clients)]
    times = await asyncio.gather(*map(collect_times, answers))
    start, end = max(each[0] for each in times), min(each[-1] for each in times)
    n_tokens = sum(
        sum(start < when <= end for when in each) * args.tokens / len(each) for each in times
    )
    if end <= start:
        raise SystemExit("the first answer ended before the last one began: more --tokens")
    return n_tokens / (end - start)


async def measure_first_token(server: Server, args: argparse.Namespace) -> float:
    """Return the milliseconds from the request to the first token: best of three."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        times = await collect_times(server.answer(make_prompt(args.prompt, args.n_vocab), 3))
        best = min(best, times[0] - started)
    return best * 1e3


async def measure_pause(server: Server, args: argparse.Namespace) -> dict[str, float]:
    """Return the longest pause of an answer beside a long prompt, in milliseconds."""
    running = server.answer(make_prompt(64, args.n_vocab), args.ctx - 100)
    times: list[float] = []

    async def read() -> None:
        async for _ in running:
            times.append(time.perf_counter())

    reading = asyncio.create_task(read())
    while len(times) < 5 and not reading.done():
        await asyncio.sleep(0.01)
    started = time.perf_counter()
    first = (await collect_times(server.answer(make_prompt(args.long, args.n_vocab), 3)))[0]
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    during = [when for when in times if started - 1 <= when <= first]
    gaps = [b - a for a, b in pairwise([*during, first])]
    return {"longest_pause_ms": max(gaps) * 1e3, "long_prompt_ms": (first - started) * 1e3}


Figure: TypeAlias = Callable[[Server], Awaitable[dict[str, float]]]


def list_figures(args: argparse.Namespace) -> list[Figure]:
    """Return what to measure, in order: each returns figures of one server by name."""

    async def first_token(server: Server) -> dict[str, float]:
        return {"first_token_ms": await measure_first_token(server, args)}

    async def answers(server: Server, n_clients: int) -> dict[str, float]:
        cpu_s = server.read_cpu_s()
        tps = await measure_answers(server, n_clients, args)
        cpu_s = server.read_cpu_s() - cpu_s
        cpu_ms = cpu_s * 1e3 / (args.tokens * n_clients)
        return {f"answer_tps_{n_clients}": tps, f"cpu_ms_{n_clients}": cpu_ms}

    async def pause(server: Server) -> dict[str, float]:
        return await measure_pause(server, args)

    async def memory(server: Server) -> dict[str, float]:
        return {"front_mib": server.front.memory_info().rss / 2**20}

    figures: list[Figure] = [first_token] if args.prompt else []
    figures += [partial(answers, n_clients=n_clients) for n_clients in args.clients]
    return [*figures, *([pause] if args.long else []), memory]


async def measure(args: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return the figures of each round, by the server's name."""
    names = [args.only] if args.only else ["g4", "llama-server"]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    servers: dict[str, Server] = {}
    try:
        for name in names:
            servers[name] = server = await Server.start(name, args, max(args.clients))
            await collect_times(server.answer(make_prompt(64, args.n_vocab), 8))  # warm up
        for number in range(args.rounds):
            for name in names:
                found[name].append({})
            for figure in list_figures(args):
                for name in names if number % 2 == 0 else names[::-1]:
                    found[name][-1] |= await figure(servers[name])
    finally:
        for server in servers.values():
            await server.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--llama-server", default="llama-server")
    parser.add_argument("--clients", default="1,2,4,8")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--long", type=int, default=4000)
    parser.add_argument("--ctx", type=int, default=4608)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--n-vocab", type=int, default=0)
    parser.add_argument("--only", choices=("g4", "llama-server"))
    args = parser.parse_args()
    args.clients = [int(n) for n in args.clients.split(",")]
    args.n_vocab = args.n_vocab or shape_of(read_header(args.file)).n_vocab
    with tempfile.TemporaryDirectory() as args.cache:
        rounds = asyncio.run(measure(args))
    if len(rounds) > 1:
        rounds["ratio"] = [
            {key: value / theirs[key] for key, value in ours.items() if theirs[key]}
            for ours, theirs in zip(*rounds.values(), strict=True)
        ]
    found = {
        name: {
            key: round(statistics.median(each[key] for each in all_ if key in each), 3)
            for key in all_[0]
        }
        for name, all_ in rounds.items()
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""Many clients at once: g4's scheduler beside llama-server of the same sources, on the same file.

    python tests/bench/bench_serve.py FILE [--llama-server PATH] [--clients 1,2,4,8] [--tokens 64]
        [--prompt 512] [--long 4000] [--threads N] [--only g4|llama-server]

FILE is a model, best of real shape (tests/support/builders/real_shapes.py e2b q4_0 FILE --weights
random). g4 is asked through its asynchronous client, llama-server through HTTP with token ids. Both
get as many slots as the most clients, the same context, threads and greedy sampling, and no token
ends an answer. Prompts differ from each other, so that nothing is found in memory. Prints one JSON
document:

    answer_tps        answer tokens per second of all clients together, by number of clients
    first_token_ms    an empty server, a prompt of --prompt tokens: best of three
    longest_pause_ms  between two tokens of a running answer, while another client sends --long
                      tokens; and how long that prompt took
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.chat import PromptRead, TurnOptions
from g4cli.core.gguf import read_header
from g4cli.core.shape import shape_of
from g4cli.runtime.engine.async_client import AsyncEngine
from g4cli.runtime.engine.drafting import DraftChoice
from g4cli.runtime.engine.messages import Open, RunTurn, TurnDone
from g4cli.runtime.engine.options import ContextOptions, ModelOptions, Sampling

SAMPLING = Sampling(temp=0, ignore_eos=True)


class Server(Protocol):
    """Yields once for every token of an answer."""

    def answer(self, prompt: Sequence[int], n_tokens: int, /) -> AsyncIterator[None]: ...
    async def close(self) -> None: ...


class G4:
    """The scheduler in its worker process, without HTTP."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    @classmethod
    async def start(cls, args: argparse.Namespace, n_slots: int) -> G4:
        context = ContextOptions(args.ctx, n_threads=args.threads, n_parallel=n_slots)
        off = DraftChoice("off", "not asked for")
        return cls(await AsyncEngine.start(Open(args.file, ModelOptions(), context, off)))

    async def answer(self, prompt: Sequence[int], n_tokens: int) -> AsyncIterator[None]:
        options = TurnOptions(max_tokens=n_tokens, stop_on_loop=False, raw=True, n_probs=None)
        turn = RunTurn(tuple(prompt), SAMPLING, options)
        async with aclosing(self.engine.run_turn(turn)) as events:
            async for event in events:
                if not isinstance(event, PromptRead | TurnDone):
                    yield

    async def close(self) -> None:
        await self.engine.close()


class LlamaServer:
    """llama-server, asked for /completion as a stream of events."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process, self._port = process, port

    @classmethod
    async def start(cls, args: argparse.Namespace, n_slots: int) -> LlamaServer:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        threads = ["-t", str(args.threads)] if args.threads else []
        process = await asyncio.create_subprocess_exec(
            args.llama_server, "-m", args.file, "--port", str(port), "-np", str(n_slots),
            "-c", str(args.ctx * n_slots), "-fa", "auto", "--no-webui", *threads,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        server = cls(process, port)
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
        raise SystemExit(f"{args.llama_server} ended with status {process.returncode}")

    async def _send(
        self, method: str, path: str, body: str = ""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        return reader, writer

    async def answer(self, prompt: Sequence[int], n_tokens: int) -> AsyncIterator[None]:
        body = {
            "prompt": list(prompt), "n_predict": n_tokens, "temperature": 0, "stream": True,
            "ignore_eos": True, "cache_prompt": True,
        }  # fmt: skip
        reader, writer = await self._send("POST", "/completion", json.dumps(body))
        try:
            if b" 200 " not in await reader.readline():
                raise SystemExit((await reader.read(1000)).decode())
            while line := await reader.readline():
                if line.startswith(b"data:") and b'"stop":true' in line:
                    return
                if line.startswith(b"data:"):
                    yield
        finally:
            writer.close()

    async def close(self) -> None:
        self._process.terminate()
        await self._process.wait()


def make_prompt(n_tokens: int, n_vocab: int) -> list[int]:
    """Return tokens of text in random order behind a BOS."""
    return [2, *(random.randrange(n_vocab // 4, n_vocab // 2) for _ in range(n_tokens - 1))]


async def collect_times(events: AsyncIterator[None]) -> list[float]:
    return [time.perf_counter() async for _ in events]


async def measure_answers(server: Server, n_clients: int, args: argparse.Namespace) -> float:
    """Return tokens per second of all clients, from when all answer until the first one ends."""
    answers = [server.answer(make_prompt(64, args.n_vocab), args.tokens) for _ in range(n_clients)]
    times = await asyncio.gather(*map(collect_times, answers))
    start, end = max(each[0] for each in times), min(each[-1] for each in times)
    return sum(start < when <= end for each in times for when in each) / (end - start)


async def measure_first_token(server: Server, args: argparse.Namespace) -> float:
    """Return the milliseconds from the request to the first token: best of three."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        times = await collect_times(server.answer(make_prompt(args.prompt, args.n_vocab), 2))
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
    first = (await collect_times(server.answer(make_prompt(args.long, args.n_vocab), 2)))[0]
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    during = [when for when in times if when >= started - 1]
    gaps = [b - a for a, b in pairwise(during)]
    return {"longest_pause_ms": max(gaps) * 1e3, "long_prompt_ms": (first - started) * 1e3}


async def measure(kind: Any, args: argparse.Namespace) -> dict[str, Any]:
    server = await kind.start(args, max(args.clients))
    try:
        await collect_times(server.answer(make_prompt(64, args.n_vocab), 8))  # warm up
        found: dict[str, Any] = {"first_token_ms": await measure_first_token(server, args)}
        found["answer_tps"] = {str(n): await measure_answers(server, n, args) for n in args.clients}
        if args.long:
            found |= await measure_pause(server, args)
        return found
    finally:
        await server.close()


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
    parser.add_argument("--n-vocab", type=int, default=0)
    parser.add_argument("--only", choices=("g4", "llama-server"))
    args = parser.parse_args()
    args.clients = [int(n) for n in args.clients.split(",")]
    args.n_vocab = args.n_vocab or shape_of(read_header(args.file)).n_vocab
    kinds = {"g4": G4, "llama-server": LlamaServer}
    found = {
        name: asyncio.run(measure(kind, args))
        for name, kind in kinds.items()
        if args.only in (None, name)
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

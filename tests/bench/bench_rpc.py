"""Tokens per second over a network against the prediction of `g4 fit`, and the bytes of a token.

    sudo python tests/bench/bench_rpc.py MODEL.gguf [--workers 2] [--tokens 12] [--rounds 4]

Each worker runs in a network namespace of its own, behind a pair of virtual Ethernet devices whose
rate `tc` limits in both directions. What delays is a program between: not every kernel has netem.
It counts the bytes too. Linux, root, iproute2 and a llama.cpp with its RPC backend are needed.

The prediction: the time of a token without limits, measured right before, plus the bytes over the
rate, plus a round trip for each worker. A busy machine changes the time of a token from second to
second, so each network is measured in rounds, and the median of their ratios counts.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from g4cli.core.gguf import read_header
from g4cli.core.shape import shape_of
from g4cli.estimate import Options, count_network_bytes
from g4cli.estimate.placement import layer_devices
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions, ModelOptions
from g4cli.runtime.llama.interrupt import Interrupt

PROGRAM = "from g4cli.cli.start import main; main()"
N_CTX = 256
WARM_UP = 4
NO_LIMIT = 1_000_000_000_000
# Name, bits per second of each direction, seconds of a round trip that are added.
NETWORKS = (
    ("1 Gbit/s", 1_000_000_000, 0.0),
    ("300 Mbit/s", 300_000_000, 0.0),
    ("100 Mbit/s", 100_000_000, 0.0),
    ("5 ms", NO_LIMIT, 5e-3),
    ("20 ms", NO_LIMIT, 20e-3),
    ("300 Mbit/s, 5 ms", 300_000_000, 5e-3),
    ("100 Mbit/s, 20 ms", 100_000_000, 20e-3),
)
# Of a full Ethernet frame of 1514 bytes, which tc counts, 1448 are data.
DATA_SHARE = 1448 / 1514


class Delay:
    """Passes connections on to `target`, each byte half of `round_trip_s` later; counts bytes."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.round_trip_s, self.n_bytes, self._target = 0.0, 0, target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(self._target)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink in ((client, server), (server, client)):
                queue: deque[tuple[float, bytes]] = deque()
                ready = threading.Semaphore(0)
                for work in (self._read, self._write):
                    threading.Thread(
                        target=work, args=(source, sink, queue, ready), daemon=True
                    ).start()

    def _read(self, source: Any, _sink: Any, queue: Any, ready: Any) -> None:
        data = b"x"
        while data:
            try:
                data = source.recv(1 << 18)
            except OSError:
                data = b""
            self.n_bytes += len(data)
            queue.append((time.monotonic() + self.round_trip_s / 2, data))
            ready.release()

    def _write(self, source: Any, sink: Any, queue: Any, ready: Any) -> None:
        while True:
            ready.acquire()
            due, data = queue.popleft()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not data:
                    source.shutdown(socket.SHUT_RDWR)
                    sink.shutdown(socket.SHUT_RDWR)
                    return
                sink.sendall(data)
            except OSError:
                return


def run(*words: str) -> None:
    subprocess.run(words, check=True)


class Namespace:
    """A worker in a network namespace behind a pair of virtual devices."""

    def __init__(self, index: int, n_threads: str) -> None:
        # With the process id, so that what a killed run left is not in the way.
        self._name, self._here, self._there = (f"g4{x}{index}-{os.getpid()}" for x in "wht")
        net = f"10.98.{index}"
        run("ip", "netns", "add", self._name)
        run("ip", "link", "add", self._here, "type", "veth", "peer", "name", self._there)
        run("ip", "link", "set", self._there, "netns", self._name)
        run("ip", "addr", "add", f"{net}.1/24", "dev", self._here)
        run("ip", "link", "set", self._here, "up")
        for words in (
            ("ip", "addr", "add", f"{net}.2/24", "dev", self._there),
            ("ip", "link", "set", self._there, "up"),
            ("ip", "link", "set", "lo", "up"),
        ):
            run("ip", "netns", "exec", self._name, *words)
        command = ["ip", "netns", "exec", self._name, sys.executable, "-c", PROGRAM, "worker",
                   "--host", f"{net}.2", "--port", "0", "--insecure-network", "--json",
                   "--threads", n_threads]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        lines = []
        while not lines or lines[-1] != "}\n":
            lines.append(self.process.stdout.readline())
            assert lines[-1], "the worker did not start"
        self.delay = Delay((f"{net}.2", json.loads("".join(lines))["port"]))

    def limit(self, bits_per_s: int) -> None:
        inside = ("ip", "netns", "exec", self._name)
        for before, device in (((), self._here), (inside, self._there)):
            subprocess.run([*before, "tc", "qdisc", "del", "dev", device, "root"],
                           check=False, stderr=subprocess.DEVNULL)  # fmt: skip
            if bits_per_s:
                run(*before, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate",
                    f"{bits_per_s}bit", "burst", "64kb", "latency", "400ms")  # fmt: skip

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        run("ip", "netns", "del", self._name)


class Round(NamedTuple):
    """Seconds of a token without a limit, with it, and as predicted; and its bytes."""

    base_s: float
    limited_s: float
    predicted_s: float
    n_bytes: float

    @property
    def error(self) -> float:
        return self.limited_s / self.predicted_s - 1


def time_tokens(context: Context, n_tokens: int, spaces: list[Namespace]) -> tuple[float, float]:
    """Return the median seconds of a token, its logits fetched, and its bytes on the network.

    The first tokens, for which llama.cpp sends its graphs, are left out.
    """
    context.truncate(0)
    context.decode_tokens([context.model.bos, *range(100, 110)])
    times: list[float] = []
    before = 0
    for token in range(n_tokens + WARM_UP):
        if token == WARM_UP:
            before = sum(space.delay.n_bytes for space in spaces)
        started = time.perf_counter()
        context.decode_with_logits([200 + token])
        context.synchronize()
        context.get_logits()
        times.append(time.perf_counter() - started)
    sent = sum(space.delay.n_bytes for space in spaces) - before
    return statistics.median(times[WARM_UP:]), sent / n_tokens


def time_on(
    spaces: list[Namespace], context: Context, n_tokens: int, bits_per_s: int, round_trip_s: float
) -> tuple[float, float]:
    """Return what `time_tokens` returns, with all workers behind such a network."""
    for space in spaces:
        space.limit(bits_per_s if bits_per_s < NO_LIMIT else 0)
        space.delay.round_trip_s = round_trip_s
    return time_tokens(context, n_tokens, spaces)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", default="0", help="of each worker")
    parser.add_argument("--from", type=int, default=0, dest="first", help="network to begin with")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the namespaces are removed
    header = read_header(args.model)
    shape = shape_of(header)
    spaces = [Namespace(i, args.threads) for i in range(args.workers)]
    try:
        n_all = shape.n_layer + 1
        split = tuple(float(n_all // args.workers) for _ in spaces)
        workers = tuple(f"127.0.0.1:{space.delay.port}" for space in spaces)
        options = Options(N_CTX, n_gpu_layers=-1, tensor_split=split)
        devices = layer_devices(shape.n_layer, options, [f"RPC{i}" for i in range(args.workers)])
        cost = count_network_bytes(shape, options, devices, 0)
        assert cost is not None
        started = time.perf_counter()
        model = Model(args.model, ModelOptions(workers=workers, tensor_split=split))
        context = Context(model, ContextOptions(N_CTX), Interrupt())
        print(f"loaded in {time.perf_counter() - started:.1f} s")
        for name, bits, round_trip_s in NETWORKS[args.first :]:
            rounds = []
            for _ in range(args.rounds):
                base = time_on(spaces, context, args.tokens, 0, 0.0)[0]
                seconds, sent = time_on(spaces, context, args.tokens, bits, round_trip_s)
                predicted = base + cost.token_seconds(bits * DATA_SHARE, round_trip_s)
                rounds.append(Round(base, seconds, predicted, sent))
            middle = Round(*map(statistics.median, zip(*rounds, strict=True)))
            errors = sorted(one.error for one in rounds)
            print(
                f"{name:20} {1 / middle.base_s:6.2f} tokens/s without, "
                f"{1 / middle.limited_s:6.2f} with it, predicted {1 / middle.predicted_s:6.2f} "
                f"({statistics.median(errors):+.1%}; rounds {errors[0]:+.0%} to "
                f"{errors[-1]:+.0%}); {middle.n_bytes:,.0f} bytes a token, predicted "
                f"{cost.token_bytes:,}",
                flush=True,
            )
        context.close()
        model.close()
    finally:
        for space in spaces:
            space.close()


if __name__ == "__main__":
    main()

"""The longest stall of `g4 serve` that a client sees while another one sends a costly request.

    python tests/bench/bench_serve_stalls.py [--rounds 5]

The server has the model `tiny`. One client asks for /health every few milliseconds; meanwhile
another one sends one of the requests below, each of which may take the server's processor but not
its event loop. Prints one JSON document: for each request its status, how many seconds it took, and
the longest time in milliseconds that an answer to /health took, as the least of all rounds (what
else the machine does can only add to it). "none" is the same without a costly request.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

ASK: Final = [{"role": "user", "content": "Hi"}]
CHAT: Final = "/v1/chat/completions"


def make_tool(n_bytes: int) -> dict[str, Any]:
    """Return a tool whose declaration has about `n_bytes` bytes of enumerations."""
    words = [f"word-{number:06}" for number in range(n_bytes // 16)]
    parameters = {"type": "object", "properties": {"a": {"enum": words}}}
    return {"type": "function", "function": {"name": "find", "parameters": parameters}}


def make_deep_tool(n_members: int) -> dict[str, Any]:
    """Return a tool with so many members, a third of them objects of their own."""
    row = {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "integer"}}}
    members = {f"m{number}": row for number in range(n_members // 3)}
    parameters = {"type": "object", "properties": members}
    return {"type": "function", "function": {"name": "find", "parameters": parameters}}


def make_image(n_bytes: int) -> dict[str, Any]:
    """Return a part of a message: an image of `n_bytes` bytes that is none."""
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(n_bytes)).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def make_requests() -> Mapping[str, tuple[str, bytes]]:
    """Return paths and bodies of the costly requests by name."""
    limit = {"max_tokens": 1}
    picture = [{"role": "user", "content": [make_image(45_000_000)]}]
    bodies: dict[str, tuple[str, Any]] = {
        "a tool of 0.5 MB": (CHAT, {"messages": ASK, "tools": [make_tool(500_000)], **limit}),
        "a tool of 3,000 members": (
            CHAT,
            {"messages": ASK, "tools": [make_deep_tool(3000)], **limit},
        ),
        "256 tools": (
            CHAT,
            {
                "messages": ASK,
                "tools": [
                    {
                        "type": "function",
                        "function": {**make_deep_tool(30)["function"], "name": f"f{n}"},
                    }
                    for n in range(256)
                ],
                **limit,
            },
        ),
        "8,192 messages": (CHAT, {"messages": ASK * 8192, **limit}),
        "60 MB of an image": (CHAT, {"messages": picture}),
        "60 MB of text": (CHAT, {"messages": [{"role": "user", "content": "a" * 60_000_000}]}),
        "50,000 wrong parts": (CHAT, {"messages": [{"role": "user", "content": [1] * 49_000}]}),
        "a grammar of 256 KB": (
            CHAT,
            {"messages": ASK, "grammar": 'root ::= "a"\n' + "# x\n" * 60_000},
        ),
        "a schema of 1 MB": (
            "/v1/responses",
            {
                "input": "Hi",
                "text": {
                    "format": {
                        "type": "json_schema",
                        "name": "x",
                        "schema": make_tool(1_000_000)["function"]["parameters"],
                    }
                },
            },
        ),
        "200,000 tokens": ("/v1/completions", {"prompt": [1] * 200_000}),
    }
    raw = {name: (path, json.dumps(body).encode()) for name, (path, body) in bodies.items()}
    raw["60 MB of numbers"] = (CHAT, b'{"messages": [' + b"1," * 30_000_000 + b"1]}")
    raw["60 MB of brackets"] = (CHAT, b"[" * 60_000_000)
    return raw


def post(port: int, path: str, body: bytes) -> int:
    """Return the status of the answer to a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    headers = {"Content-Type": "application/json"}
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def watch_health(port: int, ended: threading.Event, stalls: list[float]) -> None:
    """Ask for /health until `ended`; append the seconds of each answer to `stalls`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    while not ended.is_set():
        begun = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        stalls.append(time.perf_counter() - begun)
        time.sleep(0.002)
    connection.close()


def measure(port: int, path: str, body: bytes) -> dict[str, float]:
    """Return status, seconds and longest stall (ms) of one costly request; without body of none."""
    watcher = [sys.executable, __file__, "--watch", str(port)]
    with subprocess.Popen(
        watcher, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as seen:
        assert seen.stdin is not None
        assert seen.stdout is not None
        seen.stdout.readline()  # it has its first answer
        begun = time.perf_counter()
        if body:
            status = post(port, path, body)
        else:
            time.sleep(1)
            status = 0
        seconds = time.perf_counter() - begun
        seen.stdin.close()
        longest = float(seen.stdout.readline())
    return {"status": status, "seconds": round(seconds, 3), "stall_ms": round(1000 * longest, 1)}


def watch(port: int) -> None:
    """Print the longest stall between the first answer and the end of standard input."""
    ended = threading.Event()
    stalls: list[float] = []
    thread = threading.Thread(target=watch_health, args=(port, ended, stalls))
    thread.start()
    while not stalls:
        time.sleep(0.01)
    print(flush=True)
    sys.stdin.read()
    ended.set()
    thread.join()
    print(max(stalls[1:], default=0.0), flush=True)


def main() -> None:
    """Measure all requests and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--watch", type=int, default=0)
    args = parser.parse_args()
    if args.watch:
        watch(args.watch)
        return
    command = [Path(sys.executable).with_name("g4"), "serve", "tiny", "--port", "0", "--json"]
    with subprocess.Popen([*command, "--ctx", "1024"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "}\n")
        port = int(json.loads("".join(lines) + "}")["url"].rpartition(":")[2].strip("/"))
        try:
            found: dict[str, Any] = {}
            for name, (path, body) in {"none": ("", b""), **make_requests()}.items():
                if args.only not in name:
                    continue
                rounds = [measure(port, path, body) for _ in range(args.rounds)]
                found[name] = min(rounds, key=lambda figures: figures["stall_ms"])
                print(name, found[name], file=sys.stderr)
            print(json.dumps(found, indent=1))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()

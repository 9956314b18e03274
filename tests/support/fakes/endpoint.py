"""An OpenAI-style server on the loopback address that answers as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]


def stream_text(text: str, *, n_tokens: int = 3, finish: str = "stop") -> Answer:
    """Return an answer in server-sent events, as OpenAI streams it with usage."""
    half = len(text) // 2
    events: list[dict[str, Any]] = [
        {"model": "served", "choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"delta": {"content": text[:half]}}]},
        {"choices": [{"delta": {"content": text[half:]}}]},
        {"choices": [{"delta": {}, "finish_reason": finish}]},
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": n_tokens}},
    ]
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    body = f": a comment\n\n{lines}data: [DONE]\n\n".encode()
    return 200, {"Content-Type": "text/event-stream"}, body


def refuse(status: int, message: str, **headers: str) -> Answer:
    """Return an error in OpenAI's form; an underscore in the name of a header is a hyphen."""
    body = json.dumps({"error": {"message": message, "type": "error"}}).encode()
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body


@dataclass
class FakeEndpoint:
    """The requests so far, as their bodies and headers; `url` is the base for clients."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def run_endpoint(answer: Callable[[dict[str, Any]], Answer]) -> Iterator[FakeEndpoint]:
    """Serve what `answer` returns for the body of each request."""
    fake = FakeEndpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.bodies.append(body)
            fake.headers.append(dict(self.headers))
            fake.paths.append(self.path)
            status, headers, data = answer(body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A small Hugging Face hub on the loopback address, for huggingface_hub and range requests.

    GET  /api/models/REPO[/revision/REV]         model info
    GET  /api/models/REPO/tree/REV               listing, in pages of two
    HEAD /REPO/resolve/REV/PATH                  LFS: 302 to the storage host; else 200 and git oid
    GET  /storage/SHA?sign=N                     ranges of an LFS file, as a CDN serves them

The hub is reached as 127.0.0.1, its storage as localhost: another host, which must never see a
token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


def git_oid(data: bytes) -> str:
    """Return the hash that git gives a file."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@dataclass
class Fault:
    """What goes wrong with one storage request.

    `kind`: "status" (an error with `status`), "close" (no answer), "reset" and "stall" (of the
    connection after `after` bytes), "short" (`after` bytes too few), "garbage", or an answer with
    a "wrong range", "whole" instead of a range, or of an "other size".
    """

    kind: str
    status: int = 500
    after: int = 0
    retry_after: int | None = None


@dataclass
class FakeRepo:
    """One repository; `lfs` files are served from storage, `plain` ones by the hub itself."""

    lfs: dict[str, bytes] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)
    commit: str = "c" * 40
    gated: bool = False
    lists_hashes: bool = True  # a mirror may list names and sizes only
    private: bool = False
    claimed_sha256: dict[str, str] = field(default_factory=dict)

    def sha256(self, path: str) -> str:
        """Return the hash of the LFS record, which may lie."""
        return self.claimed_sha256.get(path) or hashlib.sha256(self.lfs[path]).hexdigest()


@dataclass
class FakeHub:
    """The state of the server, and what it has seen."""

    repos: dict[str, FakeRepo] = field(default_factory=dict)
    token: str = "hf_right"
    faults: list[Fault] = field(default_factory=list)  # one per storage request, until used up
    api_faults: list[Fault] = field(default_factory=list)
    rate: float = 0.0  # bytes per second of the whole server, 0: unlimited
    sign: int = 1  # storage addresses signed with another number have expired
    port: int = 0
    sent_bytes: int = 0
    requests: list[str] = field(default_factory=list)
    leaked_tokens: int = 0
    storage_host: str = ""  # by default this server, under another name
    tls: ssl.SSLContext | None = None
    proxy_logins: set[str] = field(default_factory=set)
    ranges: list[tuple[int, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    due: float = 0.0

    @property
    def url(self) -> str:
        """Return the endpoint."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def scheme(self) -> str:
        """Return http or https."""
        return "https" if self.tls else "http"

    def blob(self, sha: str) -> bytes | None:
        """Return the content stored under a hash that some record claims."""
        for repo in self.repos.values():
            for path, data in repo.lfs.items():
                if repo.sha256(path) == sha:
                    return data
        return None

    def pace(self, n: int) -> None:
        """Wait until `n` more bytes may leave."""
        with self.lock:
            self.sent_bytes += n
            if not self.rate:
                return
            self.due = max(self.due, time.monotonic()) + n / self.rate
            wait = self.due - time.monotonic()
        if wait > 0:
            time.sleep(wait)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: FakeHub

    def log_message(self, *_: Any) -> None:
        pass

    def setup(self) -> None:
        # Small buffers: what counts as sent has nearly arrived, also when the reader is killed.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        super().setup()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {path}")
            if login := self.headers.get("Proxy-Authorization"):
                self.hub.proxy_logins.add(base64.b64decode(login.removeprefix("Basic ")).decode())
        if path.startswith("/storage/"):
            return self.storage(path.removeprefix("/storage/"), parse_qs(parts.query))
        fault = self.hub.api_faults.pop(0) if self.hub.api_faults else None
        if fault:
            return self.fail(fault)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self.info(match[1], match[2])
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            return self.tree(match[1], parse_qs(parts.query))
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(match[1], match[3])
        return self.answer(404, b"{}")

    def repo(self, name: str) -> FakeRepo | None:
        """Return the repository if the caller may see it; else answer as the hub does."""
        found = self.hub.repos.get(name)
        known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if found is None or (found.private and not known):
            self.answer(401 if not known else 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif found.gated and not known:
            status = 403 if self.headers.get("Authorization") else 401
            self.answer(status, b"{}", {"X-Error-Code": "GatedRepo"})
        else:
            return found
        return None

    def info(self, name: str, revision: str | None) -> None:
        repo = self.hub.repos.get(name)
        if repo is None or repo.private:
            repo = self.repo(name)
        if repo is None:
            return None
        if revision not in (None, "main", repo.commit):
            return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        siblings = [{"rfilename": path} for path in (*repo.lfs, *repo.plain)]
        body = {"_id": "1", "id": name, "modelId": name, "sha": repo.commit, "tags": []}
        counts = {"downloads": 0, "likes": 0}
        return self.json({**body, **counts, "siblings": siblings, "private": repo.private})

    def tree(self, name: str, query: dict[str, list[str]]) -> None:
        repo = self.hub.repos[name]
        rows: list[dict[str, Any]] = [
            {"type": "directory", "oid": "d" * 40, "size": 0, "path": "folder"}
        ]
        for path, data in repo.lfs.items():
            lfs = {"oid": repo.sha256(path), "size": len(data), "pointerSize": 130}
            row = {"type": "file", "oid": "e" * 40, "size": len(data), "path": path, "lfs": lfs}
            rows.append(row if repo.lists_hashes else {**row, "oid": "", "lfs": None})
        for path, data in repo.plain.items():
            oid = git_oid(data) if repo.lists_hashes else ""
            rows.append({"type": "file", "oid": oid, "size": len(data), "path": path})
        at = int(query.get("cursor", ["0"])[0])
        extra = {}
        if at + 2 < len(rows):
            url = f"{self.hub.url}/api/models/{name}/tree/{repo.commit}"
            extra["Link"] = f'<{url}?recursive=True&cursor={at + 2}>; rel="next"'
        return self.json(rows[at : at + 2], extra)

    def resolve(self, name: str, path: str) -> None:
        repo = self.repo(name)
        if repo is None:
            return None
        common = {"X-Repo-Commit": repo.commit}
        if path in repo.lfs:
            sha = repo.sha256(path)
            host = self.hub.storage_host or f"localhost:{self.hub.port}"
            where = f"{self.hub.scheme}://{host}/storage/{sha}?sign={self.hub.sign}"
            linked = {
                "X-Linked-Etag": f'"{sha}"',
                "X-Linked-Size": str(len(repo.lfs[path])),
                "Location": where,
            }
            return self.answer(302, b"", {**common, **linked, "ETag": '"pointer"'})
        if path in repo.plain:
            data = repo.plain[path]
            return self.ranged(data, {**common, "ETag": f'"{git_oid(data)}"'}, None)
        return self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def storage(self, sha: str, query: dict[str, list[str]]) -> None:
        if self.headers.get("Authorization"):
            self.hub.leaked_tokens += 1
        if query.get("sign") != [str(self.hub.sign)]:
            return self.answer(403, b"expired")
        data = self.hub.blob(sha)
        if data is None:
            return self.answer(404, b"gone")
        with self.hub.lock:
            fault = self.hub.faults.pop(0) if self.hub.faults else None
        return self.ranged(data, {}, fault)

    def ranged(self, data: bytes, extra: dict[str, str], fault: Fault | None) -> None:
        if fault and fault.kind in ("status", "close"):
            return self.fail(fault)
        start, end, status = 0, len(data), 200
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if match and not (fault and fault.kind == "whole"):
            start, end, status = int(match[1]), min(int(match[2]) + 1, len(data)), 206
            total = len(data) + 7 if fault and fault.kind == "other size" else len(data)
            start += bool(fault and fault.kind == "wrong range")
            extra = {**extra, "Content-Range": f"bytes {start}-{end - 1}/{total}"}
            with self.hub.lock:
                self.hub.ranges.append((start, end))
        length = (end - start) - (fault.after if fault and fault.kind == "short" else 0)
        self.send_response(status)
        for name, value in {
            **extra,
            "Content-Length": str(length),
            "Accept-Ranges": "bytes",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        body = bytes(end - start) if fault and fault.kind == "garbage" else data[start:end]
        stop = min(length, fault.after) if fault and fault.kind in ("reset", "stall") else length
        for at in range(0, stop, 16_384):
            piece = body[at : min(at + 16_384, stop)]
            self.hub.pace(len(piece))
            self.wfile.write(piece)
        if fault and fault.kind == "reset":
            return self.drop()
        if fault and fault.kind == "stall":
            # Until the reader gives up and closes its side.
            self.wfile.flush()
            self.request.settimeout(20)
            self.request.recv(1)
            return self.drop()
        return None

    def fail(self, fault: Fault) -> None:
        """Answer with an error, or not at all."""
        if fault.kind != "status":
            return self.drop()
        wait = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
        return self.answer(fault.status, b"{}", wait)

    def drop(self) -> None:
        self.close_connection = True
        # No lingering: the reader sees a reset, not an end.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.request.close()

    def json(self, body: Any, extra: dict[str, str] | None = None) -> None:
        self.answer(
            200, json.dumps(body).encode(), {"Content-Type": "application/json", **(extra or {})}
        )

    def answer(self, status: int, body: bytes, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: readers that vanish are what these tests are about."""


@contextmanager
def running(hub: FakeHub, handler_class: type[Handler] | None = None) -> Iterator[FakeHub]:
    """Serve `hub` until the block ends."""
    handler = type("BoundHandler", (handler_class or Handler,), {"hub": hub})
    with _Server(("127.0.0.1", 0), handler) as server:
        hub.port = server.server_address[1]
        if hub.tls:
            # The handshake belongs to the connection's own thread.
            server.socket = hub.tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()

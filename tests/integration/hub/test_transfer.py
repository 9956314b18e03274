"""How many connections a transfer opens, and how it writes when the network is fast."""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from g4cli.core.errors import HashMismatch
from g4cli.hub import Fetch, Hub, transfer
from g4cli.hub.body import Patience
from g4cli.hub.connection import Connection
from g4cli.hub.hashing import Hasher
from g4cli.hub.transfer import Limits
from tests.support.fakes.hub import FakeHub, FakeRepo, Fault, running

DATA = random.Random(1).randbytes(6_000_000)
REPO = "owner/repo-GGUF"
LIMITS = Limits(piece_bytes=300_000, fast_piece_bytes=2_000_000, first_wait_s=0.01, stall_s=0.4)
# Asks every moment whether one more connection would help.
EAGER = replace(LIMITS, tick_s=0.01, grow_s=0.02)


class Watched(Connection):
    """Counts what a transfer opens."""

    opened = 0

    def __init__(self, patience: Patience) -> None:
        super().__init__(patience)
        type(self).opened += 1


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(Watched, "opened", 0)
    monkeypatch.setattr(transfer, "Connection", Watched)
    state = FakeHub(repos={REPO: FakeRepo(lfs={"m-Q4_0.gguf": DATA})})
    with running(state):
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state


def fetch_file_to(folder: Path, limits: Limits = LIMITS) -> bytes:
    client = Hub()
    repository = client.read_repository(REPO)
    target = folder / "m.gguf"
    Fetch(client, repository, repository.files[0], target, limits=limits).run()
    return target.read_bytes()


@pytest.mark.slow
def test_a_slow_server_gets_more_connections_one_by_one(hub: FakeHub, tmp_path: Path) -> None:
    hub.rate = 10_000_000
    assert fetch_file_to(tmp_path, EAGER) == DATA
    assert Watched.opened == 4
    # On a busy machine a connection may seem to stall: then a part of its range comes again.
    assert hub.sent_bytes <= len(DATA) + 300_000


@pytest.mark.slow
def test_a_fast_one_keeps_one_connection_larger_pieces_and_the_page_cache_out(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct: list[int] = []
    real = os.pwrite

    def count_direct(descriptor: int, data: memoryview, at: int) -> int:
        n = real(descriptor, data, at)
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & getattr(os, "O_DIRECT", 0):
            direct.append(n)
        return n

    monkeypatch.setattr(os, "pwrite", count_direct)
    hub.rate = 6_000_000
    # Whatever arrives at all is fast: a busy machine must not look like a slow network.
    limits = replace(LIMITS, tick_s=0.01, grow_s=0.4, fast_bytes_per_s=1)
    assert fetch_file_to(tmp_path, limits) == DATA
    assert Watched.opened == 1
    sizes = {end - start for start, end in hub.ranges}
    assert 300_000 in sizes  # before it knew
    assert 2_000_000 in sizes
    if hasattr(os, "O_DIRECT") and _can_direct(tmp_path):
        assert sum(direct) > 3_000_000


def _can_direct(folder: Path) -> bool:
    try:
        os.close(os.open(folder / "probe", os.O_WRONLY | os.O_CREAT | os.O_DIRECT))
    except OSError:
        return False
    return True


@pytest.mark.slow
def test_a_dead_connection_does_not_hold_the_others_up(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("stall", after=10_000)]
    started = time.monotonic()
    assert fetch_file_to(tmp_path, replace(EAGER, stall_s=0.3)) == DATA
    assert time.monotonic() - started < 30
    assert hub.sent_bytes <= len(DATA) + 10_000


def test_a_long_hash_has_a_bar_of_its_own(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    seen: list[str] = []

    def progress(_done: int, _total: int, label: str) -> None:
        seen.append(label)
        if label.startswith("check "):
            go_on.set()

    class Late(Hasher):
        def run(self) -> None:
            go_on.wait(60)
            super().run()

    monkeypatch.setattr(transfer, "Hasher", Late)
    hub.repos[REPO].lfs["m-Q4_0.gguf"] = DATA[:500_000]
    client = Hub()
    repository = client.read_repository(REPO)
    Fetch(
        client,
        repository,
        repository.files[0],
        tmp_path / "m.gguf",
        limits=replace(LIMITS, shown_hash_bytes=1000),
        progress=progress,
    ).run()
    assert seen[0] == "m-Q4_0.gguf"
    assert "check m-Q4_0.gguf" in seen
    assert hub.sent_bytes == 500_000


def test_a_wrong_hash_after_direct_writes(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("garbage")]
    with pytest.raises(HashMismatch):
        fetch_file_to(tmp_path, replace(LIMITS, fast_bytes_per_s=1))

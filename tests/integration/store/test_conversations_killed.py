"""Processes that are killed or that write at once lose no turn and damage nothing."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from g4cli.prompt.messages import Message
from g4cli.store.conversations.store import ConversationStore

KILLS = 50


def fork(work: Callable[[], None]) -> int:
    """Run `work` in another process; return its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    finally:
        os._exit(0)


def write_turns(path: Path, name: str, log: int, most: int) -> None:
    """Append turns to a new conversation; each is written to `log` once it is stored."""
    with ConversationStore.open(path) as store:
        id_, parent = store.create(), None
        for number in range(most):
            text = f"{name} {number} " + "x" * 3000
            parent = store.append(id_, Message("user", text), parent=parent)
            os.write(log, f"{name} {number}\n".encode())


def read_texts(path: Path) -> list[str]:
    with ConversationStore.open(path) as store:
        return [
            " ".join(message.content.split()[:2])
            for summary in store.list_conversations()
            for message in store.load(summary.id).messages
        ]


@pytest.mark.slow
def test_fifty_kills_lose_no_turn(tmp_path: Path) -> None:
    path, log = tmp_path / "c.db", tmp_path / "log"
    delays = random.Random(1)
    with log.open("ab") as file:
        for kill in range(KILLS):
            pid = fork(lambda kill=kill: write_turns(path, f"run{kill}", file.fileno(), 10**6))
            begin = time.monotonic()
            while f"run{kill} " not in log.read_text() and time.monotonic() - begin < 30:
                time.sleep(0.002)
            time.sleep(delays.uniform(0, 0.02))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    stored = set(read_texts(path))
    finished = log.read_text().splitlines()
    assert len(finished) >= KILLS
    assert set(finished) <= stored
    assert len(stored) <= len(set(finished)) + KILLS  # at most one that was not reported yet
    assert not list(tmp_path.glob("*damaged*"))


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path, log = tmp_path / "c.db", tmp_path / "log"
    with log.open("ab") as file:
        pids = [
            fork(lambda name=name: write_turns(path, name, file.fileno(), 40))
            for name in ("one", "two")
        ]
        for pid in pids:
            os.waitpid(pid, 0)
    assert sorted(read_texts(path)) == sorted(log.read_text().splitlines())
    assert len(read_texts(path)) == 80

"""What a journal believes after any end: a kill, a torn line, a restart of the machine."""

from __future__ import annotations

import errno
import mmap
import os
import random
from pathlib import Path

import pytest

from g4cli.core.errors import NoSpace, UsageError
from g4cli.hub.journal import Goal, Partial

GOAL = Goal(1000, "a" * 64)


def put_spans(partial: Partial, *items: tuple[int, int]) -> None:
    for start, end in items:
        partial.write(start, memoryview(bytes([7]) * (end - start)))


@pytest.mark.parametrize("has_preadv", [True, False])
def test_what_arrived_is_there_in_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_preadv: bool
) -> None:
    if not has_preadv:
        monkeypatch.delattr(os, "preadv")
    first = Partial(tmp_path / "m.gguf", GOAL)
    assert (first.arrived_bytes, first.frontier, first.find_missing()) == (0, 0, [(0, 1000)])
    put_spans(first, (0, 100), (500, 600), (100, 150))
    # no close: as after kill -9
    second = Partial(tmp_path / "m.gguf", GOAL)
    assert (second.arrived_bytes, second.frontier) == (250, 150)
    assert second.find_missing() == [(150, 500), (600, 1000)]
    data = bytearray(5)
    assert second.readinto(memoryview(data)[:3], 500) == 3
    assert data == b"\7\7\7\0\0"
    put_spans(second, (150, 500), (600, 1000))
    assert second.arrived_bytes == GOAL.nbytes
    second.finish(tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").read_bytes() == b"\7" * 1000
    assert os.listdir(tmp_path) == ["m.gguf"]


def test_another_content_has_another_partial(tmp_path: Path) -> None:
    put_spans(Partial(tmp_path / "m.gguf", GOAL), (0, 100))
    assert Partial(tmp_path / "m.gguf", Goal(1000, "b" * 64)).arrived_bytes == 0
    assert Partial(tmp_path / "m.gguf", GOAL).arrived_bytes == 100


@pytest.mark.parametrize(
    ("tail", "have"),
    [
        (b"", 200),
        (b"200 30", 200),  # torn: no end of line
        (b"200 300\n", 300),
        (b"200 x\n200 300\n", 200),  # nothing behind a damaged line
        (b"300 200\n", 200),
        (b"200 2000\n", 200),
        (b"-5 10\n", 200),
        (b"\xff\xfe\n", 200),
        (b"sync\n", 200),
    ],
)
def test_damaged_ends_of_a_journal(tmp_path: Path, tail: bytes, have: int) -> None:
    partial = Partial(tmp_path / "m.gguf", GOAL)
    put_spans(partial, (0, 200))
    with partial.journal.open("ab") as file:
        file.write(tail)
    assert Partial(tmp_path / "m.gguf", GOAL).arrived_bytes == have


@pytest.mark.parametrize(
    "head", [b"", b"{}\n0 100\n", b"[]\n", b"\xff\n", b'{"bytes": 999, "sha256": "x"}\n0 100\n']
)
def test_a_damaged_head_means_nothing_is_known(tmp_path: Path, head: bytes) -> None:
    partial = Partial(tmp_path / "m.gguf", GOAL)
    put_spans(partial, (0, 200))
    partial.journal.write_bytes(head)
    assert Partial(tmp_path / "m.gguf", GOAL).arrived_bytes == 0


def test_a_partial_of_the_wrong_size_is_not_believed(tmp_path: Path) -> None:
    partial = Partial(tmp_path / "m.gguf", GOAL)
    put_spans(partial, (0, 200))
    os.truncate(partial.path, 500)
    assert Partial(tmp_path / "m.gguf", GOAL).arrived_bytes == 0


def test_after_a_restart_only_what_was_synced_counts(tmp_path: Path) -> None:
    partial = Partial(tmp_path / "m.gguf", GOAL, boot_id="monday")
    put_spans(partial, (0, 100))
    partial.sync()
    put_spans(partial, (100, 300))
    same_boot = Partial(tmp_path / "m.gguf", GOAL, boot_id="monday")  # as another process does
    assert same_boot.arrived_bytes == 300
    assert Partial(tmp_path / "m.gguf", GOAL, boot_id="tuesday").arrived_bytes == 100
    assert (
        Partial(tmp_path / "m.gguf", GOAL, boot_id="wednesday").arrived_bytes == 100
    )  # still on the disk


def test_forgetting_a_part(tmp_path: Path) -> None:
    partial = Partial(tmp_path / "m.gguf", GOAL)
    put_spans(partial, (0, 300))
    partial.forget_span(100, 200)
    assert partial.find_missing() == [(100, 200), (300, 1000)]
    assert Partial(tmp_path / "m.gguf", GOAL).find_missing() == [(100, 200), (300, 1000)]


def test_what_is_left_of_a_part_is_not_flushed_for_that(tmp_path: Path) -> None:
    put_spans(Partial(tmp_path / "m.gguf", GOAL, boot_id="monday"), (0, 100))
    partial = Partial(tmp_path / "m.gguf", GOAL, boot_id="monday")
    partial.sync()
    put_spans(partial, (200, 300))
    partial.forget_span(40, 60)
    tuesday = Partial(tmp_path / "m.gguf", GOAL, boot_id="tuesday")
    assert tuesday.find_missing() == [(40, 60), (100, 1000)]
    put_spans(tuesday, (100, 200))  # extends a range that was flushed
    tuesday.forget_span(0, 20)
    wednesday = Partial(tmp_path / "m.gguf", GOAL, boot_id="wednesday")
    assert wednesday.find_missing() == [(0, 20), (40, 60), (100, 1000)]


def test_a_full_disk_keeps_what_was_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = Partial(tmp_path / "m.gguf", GOAL)
    put_spans(partial, (0, 100))

    def raise_full_disk(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", raise_full_disk)
    with pytest.raises(NoSpace, match="what has arrived is kept"):
        put_spans(partial, (100, 200))
    monkeypatch.undo()
    assert Partial(tmp_path / "m.gguf", GOAL).arrived_bytes == 100


def test_writes_past_the_page_cache_mix_with_others(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(100_000)
    partial = Partial(tmp_path / "m.gguf", Goal(len(data), "a" * 64))
    block = memoryview(mmap.mmap(-1, 16_384))  # aligned, as the blocks of a transfer are
    at = 0
    partial.prefer_direct()
    # Aligned and not, in place and in size: what O_DIRECT refuses goes the usual way.
    for n in (4096, 100, 3996, 8192, 5000, 3192, 16_384, 16_384, 16_384, 16_384, 9888):
        block[:n] = data[at : at + n]
        partial.write(at, block[:n])
        at += n
    view = memoryview(bytearray(len(data)))
    assert partial.readinto(view, 0) == at == len(data)
    assert view == data
    partial.finish(tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").read_bytes() == data


def test_a_file_system_without_direct_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = Partial(tmp_path / "m.gguf", Goal(8192, "a" * 64))
    partial.prefer_direct()
    refused, real = [], os.pwrite

    def pwrite(descriptor: int, data: memoryview, at: int) -> int:
        if descriptor == partial._direct:
            refused.append(at)
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    put_spans(partial, (0, 4096), (4096, 8192))
    assert refused == [0]  # asked once
    partial.finish(tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").read_bytes() == b"\7" * 8192


@pytest.mark.parametrize("name", ["pwrite", "write", "fsync"])
def test_a_disk_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    partial = Partial(tmp_path / "m.gguf", GOAL)
    put_spans(partial, (0, 100))

    def raise_io_error(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, name, raise_io_error)

    def write_and_sync() -> None:
        put_spans(partial, (100, 200))
        partial.sync()

    with pytest.raises(
        UsageError, match="cannot be written: Input/output error; what has arrived is kept"
    ):
        write_and_sync()
    monkeypatch.undo()
    assert Partial(tmp_path / "m.gguf", GOAL).arrived_bytes >= 100


@pytest.mark.parametrize(("code", "error"), [(errno.ENOSPC, NoSpace), (errno.EIO, UsageError)])
def test_a_disk_that_fails_at_the_last_flush_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    partial = Partial(tmp_path / "m.gguf", Goal(4, "a" * 64))

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(error, match="what has arrived is kept"):
        partial.finish(tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_space_is_checked_first_and_what_is_here_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_spans(Partial(tmp_path / "m.gguf", GOAL), (0, 600))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 500})())
    assert Partial(tmp_path / "m.gguf", GOAL).arrived_bytes == 600
    with pytest.raises(NoSpace, match="needed"):
        Partial(tmp_path / "other.gguf", GOAL)


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be written"):
        Partial(tmp_path / "file" / "m.gguf", GOAL)


def test_many_small_pieces_stay_one_span(tmp_path: Path) -> None:
    partial = Partial(tmp_path / "m.gguf", GOAL)
    for at in range(0, 1000, 10):
        put_spans(partial, (at, at + 10))
    assert partial._spans == [(0, 1000)]


HOSTILE = {
    "a number of 5,000 digits": b"0 " + b"9" * 5000 + b"\n",
    "a head of 5,000 digits": b'{"bytes": ' + b"9" * 5000 + b"}\n",
    "a deep head": b"[" * 100_000 + b"\n",
    "a head that is a list": b"[1]\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_journals_mean_nothing_is_known(tmp_path: Path, name: str) -> None:
    first = Partial(tmp_path / "m.gguf", GOAL)
    first.close()
    head = first.journal.read_bytes() if name.startswith("a number") else b""
    first.journal.write_bytes(head + HOSTILE[name])
    again = Partial(tmp_path / "m.gguf", GOAL)
    assert again.arrived_bytes == 0
    again.close()


@pytest.mark.parametrize("kind", ["pipe", "link", "hard link"])
def test_what_others_put_in_place_of_our_files_is_not_written_through(
    tmp_path: Path, kind: str
) -> None:
    first = Partial(tmp_path / "m.gguf", GOAL)
    first.close()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for path in (first.path, first.journal, first.journal.with_suffix(".journal-new")):
        path.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to(victim)
        else:
            os.link(victim, path)
    again = Partial(tmp_path / "m.gguf", GOAL)
    put_spans(again, (0, 5))
    again.close()
    assert victim.read_bytes() == b"precious"
    third = Partial(tmp_path / "m.gguf", GOAL)
    assert third.arrived_bytes == 5
    third.close()

"""Files are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from g4cli.core import files
from g4cli.core.errors import FileMissing, G4Error, NoSpace, UsageError
from g4cli.core.files import (
    atomic_file,
    link_or_copy,
    open_file,
    require_file,
    require_space,
)
from tests.support.locked import lock_folder


def write_file(path: Path, data: bytes = b"new", **options: int) -> None:
    with atomic_file(path, **options) as file:
        file.write(data)


def test_a_new_file_appears_with_usual_permissions(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "model.gguf"
    write_file(target)
    assert target.read_bytes() == b"new"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~mask
    assert os.listdir(target.parent) == ["model.gguf"]


def test_the_name_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    with atomic_file(target) as file:
        file.write(b"x" * 100_000)
        assert not target.exists()
    assert target.stat().st_size == 100_000


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, ValueError, MemoryError, UsageError("no")]
)
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_interruption_leaves_the_old_file_or_none(
    tmp_path: Path, error: type[BaseException] | BaseException, old: bytes | None
) -> None:
    target = tmp_path / "model.gguf"
    if old is not None:
        target.write_bytes(old)

    def interrupted() -> None:
        with atomic_file(target) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        interrupted()
    assert os.listdir(tmp_path) == (["model.gguf"] if old else [])
    if old is not None:
        assert target.read_bytes() == old


def raise_full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_at_the_end_is_no_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(files.os, where, raise_full_disk)
    with pytest.raises(NoSpace, match="disk is full") as caught:
        write_file(tmp_path / "model.gguf")
    assert caught.value.exit_code == 4
    assert os.listdir(tmp_path) == []


def test_space_is_checked_before_the_first_byte(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match="needed"):
        write_file(tmp_path / "model.gguf", expected_bytes=1 << 60)
    assert os.listdir(tmp_path) == []
    require_space(tmp_path / "not" / "there" / "yet", 1)


@pytest.mark.parametrize("make", ["directory", "fifo", "device", "long name", "file as folder"])
def test_a_target_that_cannot_be_a_file(tmp_path: Path, make: str) -> None:
    target = tmp_path / "target"
    if make == "directory":
        target.mkdir()
    elif make == "fifo":
        os.mkfifo(target)
    elif make == "device":
        target.symlink_to("/dev/null")
    elif make == "long name":
        target = tmp_path / ("x" * 300)
    else:
        target.write_bytes(b"")
        target = target / "model.gguf"
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UsageError) as caught:
        write_file(target)
    assert caught.value.hint
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    # Root may write anywhere, so the refusal itself is simulated.
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "open", refuse)
    with pytest.raises(UsageError, match="cannot be written"):
        write_file(tmp_path / "model.gguf")


def test_errors_of_other_files_inside_the_block_keep_their_name(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="source"), atomic_file(tmp_path / "model.gguf"):
        raise PermissionError(errno.EACCES, "denied", "source.gguf")


def test_a_long_but_lawful_name_works(tmp_path: Path) -> None:
    target = tmp_path / ("ü" * 120 + ".gguf")
    write_file(target)
    assert target.exists()


def test_an_existing_file_is_replaced_at_once(tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    target.write_bytes(b"old")
    with open(target, "rb") as reader:
        write_file(target)
        assert reader.read() == b"old"  # who has it open keeps the old one
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        ("missing", FileMissing, "no such file"),
        ("directory", UsageError, "is a directory"),
        ("fifo", UsageError, "pipe or a device"),
        ("device", UsageError, "pipe or a device"),
        ("below a file", FileMissing, "no such file"),
        ("nul", FileMissing, "no such file"),
        ("long", UsageError, "cannot be read"),
        ("loop", UsageError, "cannot be read"),
    ],
)
def test_require_file_names_what_is_there_instead(
    tmp_path: Path, make: str, error: type[G4Error], words: str
) -> None:
    path = tmp_path / "x"
    if make == "directory":
        path.mkdir()
    elif make == "fifo":
        os.mkfifo(path)
    elif make == "device":
        path = Path("/dev/zero")
    elif make == "below a file":
        path.write_bytes(b"")
        path = path / "y"
    elif make == "nul":
        path = Path("a\0b")
    elif make == "long":
        path = tmp_path / ("x" * 300)
    elif make == "loop":
        path.symlink_to(path)
    with pytest.raises(error, match=words) as caught:
        require_file(path)
    assert caught.value.hint


def test_the_hint_for_a_missing_file_lists_what_there_is(tmp_path: Path) -> None:
    hints = []
    for name in ("model.gguf", "model", "photo.jpg"):
        for look in (require_file, open_file):
            with pytest.raises(FileMissing) as caught:
                look(tmp_path / name)
            hints.append(caught.value.hint)
    assert hints == [f"ls {tmp_path}"] * 6
    with pytest.raises(FileMissing) as caught:
        require_file(tmp_path / "no" / "such" / "model.gguf")
    assert caught.value.hint == f"ls {tmp_path}", "the nearest folder that is there"


def test_a_file_without_permission_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        open_file(tmp_path / "x")


def test_the_nearest_folder_is_one_that_may_be_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock_folder(monkeypatch, tmp_path)
    assert files.existing_folder(tmp_path / "home" / "cache") == tmp_path


def test_open_file_reads(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    with open_file(require_file(tmp_path / "x")) as file:
        assert file.read() == b"abc"
    with pytest.raises(FileMissing):
        open_file(tmp_path / "y")


def test_a_users_own_hidden_file_is_never_swept(tmp_path: Path) -> None:
    names = (".model.gguf.backup.tmp", ".model.gguf.abcdefgh.tmp", ".model.gguf.g4-notes.g4-tmp")
    for name in names:
        (tmp_path / name).write_bytes(b"mine")
    with atomic_file(tmp_path / "model.gguf") as file:
        file.write(b"x")
    assert {p.name for p in tmp_path.iterdir()} == {"model.gguf", *names}


@pytest.mark.parametrize("moment", ["before the lock", "before the rename"])
def test_a_second_writer_never_removes_the_file_of_one_that_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    target = tmp_path / "model.gguf"
    module, name = (fcntl, "flock") if moment == "before the lock" else (os, "replace")
    original = getattr(module, name)

    def run_second_writer_first(*arguments: Any) -> None:
        monkeypatch.setattr(module, name, original)
        write_file(target, b"second")
        original(*arguments)

    monkeypatch.setattr(module, name, run_second_writer_first)
    write_file(target, b"first")
    assert target.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["model.gguf"]


def test_the_umask_of_other_threads_is_never_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("it holds for all threads"))
    write_file(tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").read_bytes() == b"new"


def test_a_private_file_is_private_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    replace = os.replace

    def watched(source: Path, target: Path) -> None:
        seen.append(os.stat(source).st_mode & 0o777)
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    target = tmp_path / "state" / "chats" / "last.json"
    with atomic_file(target, mode=0o600) as file:
        seen.append(os.fstat(file.fileno()).st_mode & 0o777)
    assert seen == [0o600, 0o600]
    assert target.stat().st_mode & 0o777 == 0o600
    assert [p.stat().st_mode & 0o777 for p in target.parents[:2]] == [0o700, 0o700]


@pytest.mark.parametrize("can_link", [True, False])
def test_a_file_is_linked_or_copied(
    can_link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_link(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    source, target = tmp_path / "a.gguf", tmp_path / "deep" / "b.gguf"
    source.write_bytes(b"new")
    if not can_link:
        monkeypatch.setattr(os, "link", refuse_link)
    link_or_copy(source, target)
    assert os.path.samefile(source, target) == can_link
    assert target.read_bytes() == b"new"
    target.unlink()
    target.write_bytes(b"old")
    link_or_copy(source, target, replace=True)
    assert target.read_bytes() == b"new"


def test_linking_replaces_nothing_unasked(tmp_path: Path) -> None:
    source, target = tmp_path / "a.gguf", tmp_path / "b.gguf"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        link_or_copy(source, target)
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("target", ["b.gguf", "deep/b.gguf"])
def test_a_missing_source_leaves_the_target(tmp_path: Path, target: str) -> None:
    path = tmp_path / target
    write_file(path, b"old")
    with pytest.raises(FileMissing):
        link_or_copy(tmp_path / "a.gguf", path, replace=True)
    assert path.read_bytes() == b"old"


def test_a_file_takes_its_own_place(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"the only copy")
    link_or_copy(path, path, replace=True)
    assert path.read_bytes() == b"the only copy"
    assert os.listdir(tmp_path) == ["a.gguf"]


def test_a_file_in_place_of_the_targets_folder_is_no_existing_target(tmp_path: Path) -> None:
    source = tmp_path / "a.gguf"
    source.write_bytes(b"new")
    with pytest.raises(UsageError, match="cannot be written"):
        link_or_copy(source, source / "b.gguf")


def test_a_copy_is_kept_where_its_times_cannot_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(files.shutil, "copystat", refuse)
    write_file(tmp_path / "a.gguf")
    link_or_copy(tmp_path / "a.gguf", tmp_path / "b.gguf")
    assert (tmp_path / "b.gguf").read_bytes() == b"new"


def test_the_nearest_folder_is_found_where_one_may_not_be_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may search every folder, so the refusal itself is simulated.
    locked, real_stat = tmp_path / "locked", os.stat
    locked.mkdir()

    def refuse(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if locked in Path(path).parents:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refuse)
    assert files.existing_folder(locked / "x" / "y") == locked


@pytest.mark.parametrize("look", [require_file, open_file])
def test_a_path_that_cannot_lead_to_a_file_is_a_missing_file(
    tmp_path: Path, look: Callable[[Path], object]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (Path("a\0b"), tmp_path / "file" / "x"):
        with pytest.raises(FileMissing):
            look(path)


def test_an_error_of_the_block_keeps_its_cause(tmp_path: Path) -> None:
    cause = ZeroDivisionError()
    with pytest.raises(PermissionError) as caught, atomic_file(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "denied") from cause
    assert caught.value.__cause__ is cause

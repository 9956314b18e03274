"""The folder of saved states: what is written comes back, and nothing else ever does."""

from __future__ import annotations

import os
import random
import shutil
import stat
import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from g4cli.core.errors import UsageError
from g4cli.core.paths import cache_dir
from g4cli.store.states.files import read_header
from g4cli.store.states.folder import About, StateFolder, StateName
from g4cli.store.states.keys import digest_prefix, iter_prefix_digests, make_namespace, pack_tokens
from g4cli.store.states.limits import choose_limit, states_dir
from g4cli.store.states.model_id import identify_model
from g4cli.store.states.rows import (
    BLOCK_TOKENS,
    Table,
    Tables,
    cut_rest,
)
from tests.support.states import cut_and_join

SPACE = make_namespace(["model", 1])
OTHER = make_namespace(["model", 2])
ABOUT = About("tiny", "/models/tiny.gguf", "f16")
TOKENS = list(range(3, 1003))
LIMIT = 1 << 30


def allocate(n_bytes: int) -> memoryview:
    return memoryview(bytearray(n_bytes))


def make_state(n_tokens: int, seed: int = 0) -> tuple[bytes, Tables]:
    """A state of two tables whose rows depend on the token alone, between other bytes."""
    n_blocks = n_tokens // BLOCK_TOKENS
    rows = [
        b"".join(random.Random(f"{seed} {width} {i}").randbytes(width) for i in range(n_tokens))
        for width in (8, 24)
    ]
    state = b"head" + rows[0] + b"between" + rows[1] + f"window {n_tokens}".encode()
    between = 7 + 8 * (n_tokens - n_blocks * BLOCK_TOKENS)
    return state, Tables(len(state), (Table(4, 8), Table(between, 24)), n_blocks)


def name_of(n_tokens: int) -> StateName:
    return StateName(n_tokens, digest_prefix(pack_tokens(TOKENS[:n_tokens])))


def write(folder: StateFolder, n_tokens: int, space: str = SPACE) -> StateName:
    state, tables = make_state(n_tokens)
    name = name_of(n_tokens)
    assert folder.write_state(space, ABOUT, name, state, tables) is not None
    return name


def read(folder: StateFolder, name: StateName, space: str = SPACE) -> bytes | None:
    found = folder.read_state(space, name, allocate)
    return None if found is None else bytes(found[1])


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "states", LIMIT)


@pytest.mark.parametrize("n_tokens", [1, BLOCK_TOKENS - 1, BLOCK_TOKENS, 700])
def test_what_was_cut_is_put_together_to_the_same_bytes(n_tokens: int) -> None:
    state, tables = make_state(n_tokens)
    assert len(cut_rest(state, tables)) == tables.rest_bytes
    assert cut_and_join(state, tables) == state


@pytest.mark.parametrize("n_tokens", [5, 300, 700])
def test_what_was_written_comes_back(folder: StateFolder, n_tokens: int) -> None:
    name = write(folder, n_tokens)
    assert read(folder, name) == make_state(n_tokens)[0]


def test_a_longer_state_writes_its_new_blocks_only(folder: StateFolder) -> None:
    write(folder, 600)
    before = {path: path.stat().st_mtime_ns for path in folder.root.glob("*/*.block")}
    write(folder, 900)
    after = {path: path.stat().st_mtime_ns for path in folder.root.glob("*/*.block")}
    assert len(before) == 600 // BLOCK_TOKENS
    assert len(after) == 900 // BLOCK_TOKENS
    assert all(after[path] == changed for path, changed in before.items())


def test_the_longest_prefix_is_found_first(folder: StateFolder) -> None:
    for n_tokens in (300, 600, 900):
        write(folder, n_tokens)
    other = [*TOKENS[:700], 1, *TOKENS[701:]]
    assert folder.find_states(SPACE, pack_tokens(TOKENS)) == [*map(name_of, (900, 600, 300))]
    assert folder.find_states(SPACE, pack_tokens(other)) == [name_of(600), name_of(300)]
    assert folder.find_states(SPACE, pack_tokens(TOKENS[:599])) == [name_of(300)]
    assert folder.find_states(OTHER, pack_tokens(TOKENS)) == []


def test_digests_of_prefixes_are_those_of_the_prefixes_alone() -> None:
    packed = pack_tokens(TOKENS)
    for n_tokens, digest in iter_prefix_digests(packed, [700, 1, 300, 5000]):
        assert digest == digest_prefix(pack_tokens(TOKENS[:n_tokens]))


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_only_their_owner_may_read_states(folder: StateFolder) -> None:
    old = os.umask(0)
    try:
        write(folder, 600)
    finally:
        os.umask(old)
    for path in (folder.root, *folder.root.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_no_change_of_any_file_gives_another_state(folder: StateFolder, tmp_path: Path) -> None:
    name = write(folder, 600)
    rng = random.Random(1)
    files = sorted(path for path in folder.root.rglob("*") if path.suffix in (".state", ".block"))
    kept = tmp_path / "kept"
    shutil.copytree(folder.root, kept)
    for path in files:
        for change in range(9):
            shutil.rmtree(folder.root)
            shutil.copytree(kept, folder.root)
            data = bytearray(path.read_bytes())
            if change % 3 == 0:
                del data[rng.randrange(len(data)) :]
            elif change % 3 == 1:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            else:
                data += b"more"
            path.write_bytes(data)
            assert read(folder, name) is None
            assert not (folder.root / SPACE / name.file).exists()


def test_a_file_that_another_user_may_write_is_not_read(folder: StateFolder) -> None:
    name = write(folder, 300)
    (folder.root / SPACE / name.file).chmod(0o666)
    assert read(folder, name) is None


def test_a_link_or_a_pipe_is_not_read(folder: StateFolder, tmp_path: Path) -> None:
    name = write(folder, 300)
    path = folder.root / SPACE / name.file
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert read(folder, name) is None
    os.mkfifo(path)
    assert read(folder, name) is None


def test_what_a_killed_writer_left_is_cleaned_up(folder: StateFolder) -> None:
    name = write(folder, 600)
    space = folder.root / SPACE
    for left in (f".{name.file}.g4-abcdefgh.g4-tmp", f"{'0' * 48}.block", "00000001-short.state"):
        (space / left).write_bytes(b"half")
    before = {path.name for path in space.iterdir()}
    folder.clean()
    after = {path.name for path in space.iterdir()}
    assert len(before - after) == 3
    assert read(folder, name) == make_state(600)[0]


def test_what_was_used_least_recently_goes_first(tmp_path: Path) -> None:
    big = StateFolder(tmp_path, LIMIT)
    names = [write(big, n_tokens, space) for n_tokens, space in ((300, SPACE), (310, OTHER))]
    for age, name, space in ((20, names[0], SPACE), (10, names[1], OTHER)):
        os.utime(tmp_path / space / name.file, (age, age))
    used = sum(namespace.n_bytes for namespace in big.list_namespaces())
    small = StateFolder(tmp_path, used + 2000)
    assert read(small, names[0]) is not None  # now the other one is older
    write(small, 320)
    assert read(small, names[1], OTHER) is None
    assert read(small, names[0]) is not None
    assert sum(namespace.n_bytes for namespace in small.list_namespaces()) <= small.limit_bytes


def test_a_state_larger_than_the_limit_is_not_written(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path, 1000)
    state, tables = make_state(300)
    assert folder.write_state(SPACE, ABOUT, name_of(300), state, tables) is None
    assert folder.list_namespaces() == ()


def test_the_folder_of_another_user_is_not_changed(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write(folder, 300)
    left = folder.root / SPACE / f"{'0' * 48}.block"
    left.write_bytes(b"half")
    monkeypatch.setattr(os, "geteuid", lambda: folder.root.stat().st_uid + 1)
    state, tables = make_state(320)
    assert folder.write_state(SPACE, ABOUT, name_of(320), state, tables) is None
    folder.remove_state(SPACE, name)
    folder.clean()
    assert left.exists()
    assert (folder.root / SPACE / name.file).exists()
    with pytest.raises(UsageError, match="another user"):
        folder.remove_namespaces(folder.list_namespaces())


def test_what_is_removed_while_it_is_listed(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write(folder, 300)

    def scan_and_remove(path: Path) -> AbstractContextManager[list[os.DirEntry[str]]]:
        found = list(scandir(path))
        if path.name == SPACE:
            (path / name.file).unlink(missing_ok=True)
        return nullcontext(found)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", scan_and_remove)
    assert [namespace.n_states for namespace in folder.list_namespaces()] == [0]


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = StateFolder(tmp_path / "file/states", LIMIT)
    state, tables = make_state(300)
    assert folder.write_state(SPACE, ABOUT, name_of(300), state, tables) is None
    assert folder.find_states(SPACE, pack_tokens(TOKENS)) == []
    folder.clean()
    assert folder.list_namespaces() == ()


@pytest.mark.slow
def test_several_writers_and_readers_get_whole_states(folder: StateFolder) -> None:
    expected = {n_tokens: make_state(n_tokens)[0] for n_tokens in (300, 600, 900)}
    wrong: list[object] = []

    def use() -> None:
        mine = StateFolder(folder.root, LIMIT)
        for n_tokens, state in expected.items():
            name = write(mine, n_tokens)
            if read(mine, name) not in (None, state):
                wrong.append(n_tokens)
            mine.remove_state(SPACE, name)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    folder.clean()
    assert not list(folder.root.glob("*/*.block"))


def test_states_are_listed_and_removed_by_model(folder: StateFolder) -> None:
    write(folder, 300)
    write(folder, 600)
    write(folder, 300, OTHER)
    first, second = folder.list_namespaces()
    assert {first.n_states, second.n_states} == {1, 2}
    assert first.about == ABOUT
    folder.remove_namespaces([first])
    assert folder.list_namespaces() == (second,)
    folder.remove_namespaces([first])  # as another process has done


def test_a_header_with_impossible_tables_is_refused() -> None:
    assert not Tables(10, (Table(4, 8),), 1).is_possible()
    assert not Tables(10, (Table(-4, 0),), 0).is_possible()
    assert Tables(10, (Table(4, 8),), 0).is_possible()


def test_the_header_says_what_was_written(folder: StateFolder) -> None:
    name = write(folder, 600)
    header = read_header(folder.root / SPACE / name.file)
    assert (header.n_tokens, len(header.block_digests)) == (600, 600 // BLOCK_TOKENS)
    assert header.tables == make_state(600)[1]


def test_the_limit_is_a_size_off_or_a_share_of_the_free_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("G4_HOME", str(tmp_path))
    assert choose_limit("off") == 0
    assert choose_limit("2G") == 2 << 30
    free = shutil.disk_usage(tmp_path).free
    assert 0 < choose_limit("auto") <= min(16 << 30, free // 9)
    assert states_dir() == cache_dir() / "states"
    with pytest.raises(UsageError, match="state cache"):
        choose_limit("much")


def test_a_read_only_cache_switches_states_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("G4_HOME", str(tmp_path))
    monkeypatch.setattr("os.access", lambda *_: False)
    assert choose_limit("auto") == 0


def test_another_file_is_another_model(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF one")
    first = identify_model(path)
    path.write_bytes(b"GGUF two")
    assert identify_model(path) != first

"""The store: manifests, the file of a name, adopting and making models, removing them."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from g4cli.core.errors import (
    BadFile,
    BadGGUF,
    FileMissing,
    G4Error,
    NotFound,
    UnknownModel,
    UsageError,
)
from g4cli.core.gguf import read_header
from g4cli.core.paths import models_dir, tiny_dir
from g4cli.hub.lock import hold_lock
from g4cli.store import manifest
from g4cli.store.adopt import (
    add_local_file,
    check_name,
    copy_entries,
    make_local_name,
    record_file,
    store_path,
)
from g4cli.store.make import pull_bundled, pull_path
from g4cli.store.manifest import (
    describe_damage,
    load_entry,
    manifest_path,
    read_manifest,
    role_of,
    type_of,
    write_manifest,
)
from g4cli.store.models import (
    find_model_file,
    find_newest_model,
    folder_model_name,
    list_entries,
    list_models,
    list_unfinished,
    model_folder,
    remove_entry,
    select_entries,
    select_removable,
)
from g4cli.store.verify import describe_repair, is_intact, verify_entry
from tests.support.builders.gguf import BF16, F32, Q4_0, build_gguf, gemma4_keys, write_gguf
from tests.support.locked import lock_folder


def put_model(
    name: str,
    file: str = "m.gguf",
    kind: int = F32,
    architecture: str = "gemma4",
    source: str = "test",
) -> Path:
    """Put a small model into the store as `g4 pull` does."""
    path = model_folder(name) / file
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = gemma4_keys(
        replace={"general.architecture": ("str", architecture), "general.file_type": ("u32", 1000)}
    )
    write_gguf(path, keys, [("token_embd.weight", kind, (64, 16), None)])
    record_file(path, name=name, source=source, sha256=sha256(path.read_bytes()).hexdigest())
    return path


# --- manifests --------------------------------------------------------------------------


def test_a_manifest_says_what_the_file_is() -> None:
    path = put_model("e2b", kind=Q4_0)
    fields = json.loads(manifest_path(path).read_text())
    assert fields["name"] == "e2b"
    assert fields["type"] == "q4_0"
    assert fields["bytes"] == path.stat().st_size
    assert fields["sha256"] == sha256(path.read_bytes()).hexdigest()
    entry = read_manifest(path, "e2b")
    assert (entry.label, entry.role, entry.source, entry.path) == (
        "e2b:q4_0",
        "model",
        "test",
        path,
    )
    assert entry.date.endswith("Z")


DAMAGES = {
    "missing": None,
    "empty": b"",
    "half": b'{"name": "e2b", "ty',
    "not json": b"\xff\xfe\x00",
    "a list": b"[]",
    "another format": b'{"format": 99}',
    "a field missing": b'{"format": 1, "type": "q4_0"}',
    "a wrong kind": b'{"format":1,"type":1,"sha256":"","date":"","source":"","role":"model",'
    b'"bytes":3}',
    "an unknown role": b'{"format":1,"type":"x","sha256":"","date":"","source":"","role":"boss",'
    b'"bytes":3}',
    "a float": b'{"format":1,"type":"","sha256":"","date":"","source":"","role":"model",'
    b'"bytes":1.5}',
    "huge": b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_sound_manifest_the_file_itself_is_described(damage: str) -> None:
    path = put_model("e2b", kind=BF16)
    content = DAMAGES[damage]
    manifest_path(path).unlink()
    if content is not None:
        manifest_path(path).write_bytes(content)
    with pytest.raises(BadFile, match="missing or damaged"):
        read_manifest(path, "e2b")
    entry = load_entry(path, "e2b")
    assert (entry.type, entry.sha256, entry.source) == ("bf16", "", "found")
    assert list_models() == (entry,)
    manifest_file = manifest_path(path)
    # Reading the store does not write the manifest again.
    assert (manifest_file.read_bytes() if manifest_file.exists() else None) == content


def test_a_changed_file_is_detected_by_its_manifest() -> None:
    path = put_model("e2b")
    assert describe_damage(load_entry(path, "e2b")) is None
    os.truncate(path, path.stat().st_size - 1)
    assert "in its manifest" in (describe_damage(load_entry(path, "e2b")) or "")
    entry = load_entry(path, "e2b")
    path.unlink()
    assert "cannot be read" in (describe_damage(entry) or "")


@pytest.mark.parametrize(
    ("file_type", "kinds", "extra_keys", "expected"),
    [
        (2, [Q4_0], {}, "q4_0"),
        (15, [Q4_0], {}, "q4_k_m"),
        (32, [BF16], {}, "bf16"),
        (29, [Q4_0], {}, "iq2_m"),
        (38, [Q4_0], {}, "mxfp4"),
        (32, [BF16], {"g4.format": ("str", "SFP8")}, "sfp8"),
        (1000, [F32, Q4_0, Q4_0, Q4_0, Q4_0, Q4_0, Q4_0, Q4_0, Q4_0], {}, "q4_0"),
        (0, [], {}, "vocab"),
    ],
)
def test_the_type_of_a_file_follows_from_its_keys_and_tensors(
    tmp_path: Path,
    file_type: int,
    kinds: list[int],
    extra_keys: dict[str, tuple[str, str]],
    expected: str,
) -> None:
    keys = gemma4_keys(replace={"general.file_type": ("u32", file_type), **extra_keys})
    tensors = [(f"t{i}", kind, (64, 16), None) for i, kind in enumerate(kinds)]
    assert type_of(read_header(write_gguf(tmp_path / "x.gguf", keys, tensors))) == expected


@pytest.mark.parametrize(
    ("architecture", "role"),
    [("gemma4", "model"), ("clip", "mmproj"), ("gemma4-assistant", "draft")],
)
def test_roles_follow_from_the_architecture(tmp_path: Path, architecture: str, role: str) -> None:
    path = write_gguf(tmp_path / "x.gguf", [("general.architecture", "str", architecture)])
    assert role_of(read_header(path)) == role


# --- the file of a name ---------------------------------------------------------------------


def test_a_name_finds_its_file_and_says_why() -> None:
    small = put_model("e2b", "a.gguf", Q4_0)
    assert find_model_file("e2b").path == small
    assert find_model_file("e2b").reason == "e2b:q4_0: the only one here"
    large = put_model("e2b", "b.gguf", BF16)
    assert (find_model_file("e2b").path, find_model_file("e2b").reason) == (
        small,
        "e2b:q4_0: the usual type",
    )
    assert find_model_file("e2b:bf16").path == large
    assert find_model_file("E2B:BF16").path == large
    assert find_model_file("gemma-4-E2B-it").path == small
    assert find_model_file("gemma-4-E2B-it:bf16").path == large
    with pytest.raises(NotFound, match="there is e2b:q4_0 e2b:bf16") as caught:
        find_model_file("e2b:q8_0")
    assert caught.value.hint == "g4 pull e2b:q8_0"


def test_without_the_usual_type_the_newest_is_taken() -> None:
    for file, kind, date in (
        ("a.gguf", BF16, "2026-01-01T00:00:00Z"),
        ("b.gguf", F32, "2026-02-01T00:00:00Z"),
    ):
        path = put_model("e2b", file, kind)
        fields = json.loads(manifest_path(path).read_text()) | {"date": date}
        manifest_path(path).write_text(json.dumps(fields))
    assert find_model_file("e2b").reason == "e2b:f32: the newest of 2"


def test_an_mmproj_is_never_taken_for_the_model() -> None:
    put_model("e2b", "mmproj.gguf", architecture="clip")
    with pytest.raises(NotFound, match="not on this disk yet"):
        find_model_file("e2b")
    model = put_model("e2b", "model.gguf")
    assert find_model_file("e2b").path == model
    assert [e.role for e in list_models()] == ["model", "mmproj"]


def test_local_and_hub_names() -> None:
    mine = put_model("my-model")
    theirs = put_model("hf:someone/gemma-4-E2B--x")
    assert find_model_file("my-model").path == mine
    assert find_model_file("My-Model:f32").path == mine
    assert find_model_file("hf:someone/gemma-4-E2B--x").path == theirs
    assert find_model_file("hf:someone/gemma-4-E2B--x:f32").path == theirs
    assert folder_model_name(theirs.parent) == "hf:someone/gemma-4-E2B--x"
    with pytest.raises(NotFound, match="there is my-model:f32"):
        find_model_file("my-model:q4_0")


@pytest.mark.parametrize(
    "text",
    [
        "someone/gemma-x",
        "someone/gemma-x:f32",
        "hf:someone/gemma-x",
        "https://huggingface.co/someone/gemma-x",
        "huggingface.co/someone/gemma-x",
        "hf.co/someone/gemma-x",
        "https://huggingface.co/someone/gemma-x/blob/main/{file}",
        "hf:someone/gemma-x/{file}",
    ],
)
def test_every_way_to_write_an_address_finds_the_pulled_file(text: str) -> None:
    theirs = put_model("hf:someone/gemma-x")
    word = text.format(file=theirs.name)
    assert find_model_file(word).path == theirs
    assert [e.path for e in select_entries(word)] == [theirs]


def test_an_address_names_another_type_or_file_of_the_repository() -> None:
    put_model("hf:someone/gemma-x")
    with pytest.raises(NotFound) as caught:
        find_model_file("someone/gemma-x:q4_0")
    assert caught.value.hint == "g4 pull hf:someone/gemma-x:q4_0"
    with pytest.raises(NotFound, match="not on this disk"):
        find_model_file("hf:someone/gemma-x/other.gguf")


def test_an_address_with_a_commit_names_the_file_of_that_commit_alone() -> None:
    commit = "c0ffee" + "0" * 34
    theirs = put_model("hf:someone/gemma-x", source=f"hf:someone/gemma-x/m.gguf@{commit}")
    for revision in (commit, commit[:8], "main", "a-branch"):
        assert find_model_file(f"hf:someone/gemma-x@{revision}").path == theirs
    with pytest.raises(NotFound, match="not on this disk"):
        find_model_file("hf:someone/gemma-x@c0ffee1")


def test_a_path_that_exists_is_preferred_to_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("someone").mkdir()
    Path("someone/gemma-x").write_bytes(b"")
    put_model("hf:someone/gemma-x")
    assert find_model_file("someone/gemma-x").reason == "a path"


@pytest.mark.parametrize(
    ("text", "error", "words", "hint"),
    [
        ("e2b", NotFound, "e2b is not on this disk yet", "g4 pull e2b"),
        ("e2b:bf16", NotFound, "e2b:bf16 is not on this disk yet", "g4 pull e2b:bf16"),
        ("e2b:wrong", UsageError, "no type 'wrong'", "one of"),
        ("tinny", UnknownModel, "did you mean tiny", "g4 list --available"),
        ("my-modle", UnknownModel, "did you mean my-model", "g4 list"),
        ("./absent.gguf", FileMissing, "no such file", "g4 list"),
        ("absent.gguf", FileMissing, "no such file", "g4 list"),
        ("hf:a/b", NotFound, "hf:a/b", "g4 pull hf:a/b"),
        ("google/gemma-4-E2B-it", NotFound, "not on this disk", "g4 pull hf:google/gemma-4-E2B-it"),
        ("https://example.com/a.gguf", UsageError, "not an address on the hub", "hf:OWNER/REPO"),
        ("", G4Error, ".", ""),
        ("a\0b", G4Error, "no model", "g4 list"),
    ],
)
def test_what_cannot_be_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    error: type[G4Error],
    words: str,
    hint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    put_model("my-model")
    with pytest.raises(error, match=words) as caught:
        find_model_file(text)
    assert hint in (caught.value.hint or "")


def test_a_text_is_a_path_only_if_it_looks_like_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny").write_bytes(b"")
    Path("weights.bin").write_bytes(b"")
    with pytest.raises(NotFound, match="tiny is not on this disk yet"):
        find_model_file("tiny")
    assert find_model_file("./tiny").reason == "a path"
    assert find_model_file("weights.bin").path == Path("weights.bin")  # no model has this name
    assert find_model_file(Path("tiny")).path == Path("tiny")
    with pytest.raises(UsageError, match="is a directory"):
        find_model_file(str(tmp_path))
    with pytest.raises(UsageError, match="is a directory"):
        find_model_file(".")
    with pytest.raises(FileMissing) as caught:
        find_model_file("./weight.bin")
    assert caught.value.hint == "did you mean weights.bin?"


def test_the_list_is_ordered_and_has_only_models() -> None:
    for name in ("zeta", "31b", "tiny", "e2b"):
        put_model(name)
    (models_dir() / "tiny" / "junk.gguf").write_bytes(b"junk")
    (models_dir() / "tiny" / "dir.gguf").mkdir()
    (models_dir() / "stray.gguf").write_bytes(b"")
    assert [e.name for e in list_models()] == ["tiny", "e2b", "31b", "zeta"]


# --- adopting and making ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/x/My Model (1).gguf", "my-model-1"),
        ("/x/tiny.gguf", "tiny-local"),
        ("/x/gemma-4-E2B-it", "gemma-4-e2b-it-local"),
        ("/x/....gguf", "model"),
        ("/x/модель.gguf", "model"),
    ],
)
def test_names_for_local_files(path: str, expected: str) -> None:
    assert make_local_name(Path(path)) == expected
    assert check_name(expected) == expected


@pytest.mark.parametrize("name", ["", "..", "a/b", "Upper", "e2b", "tiny", "-x", "a b"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not a valid name for a local model") as caught:
        check_name(name)
    assert "--name " in (caught.value.hint or "")


@pytest.mark.parametrize("file", ["..", ".", "", ".hidden.gguf", "a/..", "x\0.gguf", "..\\.."])
def test_file_names_cannot_leave_the_store(file: str) -> None:
    with pytest.raises(UsageError):
        store_path("e2b", file)


def test_folders_of_a_file_name_are_dropped() -> None:
    assert store_path("e2b", "../../etc/x.gguf") == models_dir() / "e2b" / "x.gguf"
    assert store_path("e2b", "C:\\x\\y.gguf") == models_dir() / "e2b" / "y.gguf"


def test_a_local_file_is_linked_and_hashed(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "own.gguf", gemma4_keys(), [("t", BF16, (64, 2), None)])
    pulled = pull_path(source)
    assert pulled.is_new
    assert os.path.samefile(pulled.entry.path, source)
    assert pulled.entry.sha256 == sha256(source.read_bytes()).hexdigest()
    assert not pull_path(source).is_new
    remove_entry(pulled.entry)
    assert source.exists()
    assert not models_dir().joinpath("own").exists()


@pytest.mark.parametrize(
    ("file", "name"), [("sha256-ab12", "sha256-ab12"), ("Own.GGUF", "own"), ("own.bin", "own.bin")]
)
def test_a_local_file_of_another_ending_is_found_again(
    tmp_path: Path, file: str, name: str
) -> None:
    source = write_gguf(tmp_path / file, gemma4_keys(), [("t", BF16, (64, 2), None)])
    entry = pull_path(source).entry
    assert [e.name for e in list_models()] == [name]
    assert select_entries(name) == (entry,)
    assert not pull_path(source).is_new


def test_a_local_split_file_comes_with_its_parts(tmp_path: Path) -> None:
    paths = [tmp_path / f"own-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, path in enumerate(paths):
        keys = [("split.no", "u16", number), ("split.count", "u16", 2)]
        write_gguf(path, gemma4_keys() + keys, [(f"t{number}", BF16, (64, 2), None)])
    second = paths[1].read_bytes()
    paths[1].unlink()
    with pytest.raises(FileMissing, match=r"00002-of-00002"):
        pull_path(paths[0], name="own")
    assert not list_models()
    paths[1].write_bytes(second)
    entry = pull_path(paths[0], name="own").entry
    assert [(e.path.name, e.role) for e in list_models()] == [
        (paths[0].name, "model"),
        (paths[1].name, "part"),
    ]
    assert entry.path.name == paths[0].name
    assert not pull_path(paths[0], name="own").is_new


def test_a_local_file_on_another_disk_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_gguf(tmp_path / "own.gguf", gemma4_keys(), [("t", BF16, (64, 2), None)])

    def refuse_link(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse_link)
    seen: list[tuple[int, int]] = []
    entry = add_local_file(
        source, name="own", progress=lambda done, total, _: seen.append((done, total))
    )
    assert not os.path.samefile(entry.path, source)
    assert entry.path.read_bytes() == source.read_bytes()
    assert seen[-1] == (source.stat().st_size,) * 2


def test_another_file_of_the_same_name_is_not_replaced(tmp_path: Path) -> None:
    for folder, kind in (("a", BF16), ("b", F32)):
        (tmp_path / folder).mkdir()
        write_gguf(tmp_path / folder / "own.gguf", gemma4_keys(), [("t", kind, (64, 2), None)])
    pull_path(tmp_path / "a" / "own.gguf")
    with pytest.raises(UsageError, match=r"a different file own\.gguf"):
        pull_path(tmp_path / "b" / "own.gguf")
    assert pull_path(tmp_path / "b" / "own.gguf", name="other").entry.name == "other"


def test_a_file_that_was_copied_from_another_disk_is_known_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_gguf(tmp_path / "own.gguf", gemma4_keys(), [("t", BF16, (64, 2), None)])

    def refuse_link(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse_link)
    assert pull_path(source).is_new
    assert not pull_path(source).is_new
    with source.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x77")
    with pytest.raises(UsageError, match=r"a different file own\.gguf"):
        pull_path(source)


def test_folders_that_may_not_be_searched_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_folder(monkeypatch, tmp_path)
    for path in (tmp_path, tmp_path / "folder", tmp_path / "file.gguf"):
        with pytest.raises(UsageError, match="cannot be read: Permission denied"):
            pull_path(path)
    lock_folder(monkeypatch, models_dir().parent)
    with pytest.raises(UsageError, match="models cannot be read: Permission denied"):
        list_models()


def test_a_bad_file_leaves_nothing_in_the_store(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(build_gguf(gemma4_keys(), [("t", BF16, (64, 2), None)])[:-100])
    with pytest.raises(BadGGUF, match="truncated"):
        pull_path(bad)
    with pytest.raises(FileMissing):
        pull_path(tmp_path / "absent.gguf")
    with pytest.raises(UsageError, match=r"no config\.json"):
        pull_path(tmp_path)
    assert not models_dir().exists()


@pytest.mark.slow
def test_tiny_is_made_once_and_again_when_its_checkpoint_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pull_bundled("tiny", "bf16")
    assert first.is_new
    assert first.entry.sha256 == sha256(first.entry.path.read_bytes()).hexdigest()
    assert first.entry.type == type_of(read_header(first.entry.path)) == "bf16"
    assert not pull_bundled("tiny", "bf16").is_new
    os.truncate(first.entry.path, 1000)
    assert pull_bundled("tiny", "bf16").is_new
    assert read_header(first.entry.path)
    other = tmp_path / "other"
    shutil.copytree(tiny_dir(), other)
    with (other / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x3e")
    monkeypatch.setattr("g4cli.store.make.tiny_dir", lambda: other)
    assert pull_bundled("tiny", "bf16").is_new


@pytest.mark.slow
@pytest.mark.parametrize("type_name", ["f32", "q8_0", "q4_0", "sfp8"])
def test_tiny_in_other_types(type_name: str) -> None:
    entry = pull_bundled("tiny", type_name).entry
    header = read_header(entry.path)
    assert (entry.type, type_of(header)) == (type_name, type_name)
    assert entry.nbytes == header.file_size == entry.path.stat().st_size
    assert entry.sha256 == sha256(entry.path.read_bytes()).hexdigest()
    assert sorted(os.listdir(entry.path.parent)) == sorted(
        [entry.path.name, manifest_path(entry.path).name]
    )


def test_a_checkpoint_folder_becomes_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "My Finetune"
    shutil.copytree(tiny_dir(), folder)
    pulled = pull_path(folder)
    assert (pulled.entry.label, pulled.is_new) == ("my-finetune:bf16", True)
    assert not pull_path(folder).is_new
    assert pull_path(folder, restart=True).is_new
    assert find_model_file("my-finetune").path == pulled.entry.path


# --- removing ---------------------------------------------------------------------------


def test_a_copy_has_its_own_name_and_the_same_bytes() -> None:
    model, encoder = put_model("e2b"), put_model("e2b", "mmproj.gguf", architecture="clip")
    copies = copy_entries(select_entries("e2b"), "mine")
    assert [(e.name, e.role) for e in copies] == [("mine", "model"), ("mine", "mmproj")]
    assert find_model_file("mine").path.samefile(model)
    for entry in select_entries("e2b"):
        remove_entry(entry)
    assert find_model_file("mine").path.is_file()
    assert not encoder.exists()


def test_a_copy_of_a_type_of_unsloth_is_found_by_its_type() -> None:
    path = put_model("hf:unsloth/e2b-GGUF")
    write_manifest(replace(read_manifest(path, "hf:unsloth/e2b-GGUF"), type="ud-q4_k_xl"))
    copy_entries(select_entries("hf:unsloth/e2b-GGUF:UD-Q4_K_XL"), "mine")
    assert find_model_file("mine:UD-Q4_K_XL").path.samefile(path)
    assert [entry.label for entry in select_entries("mine:ud-q4_k_xl")] == ["mine:ud-q4_k_xl"]


def test_a_copy_of_a_damaged_file_is_no_better_than_the_file() -> None:
    path = put_model("other")
    path.write_bytes(b"XXXX" + path.read_bytes()[4:])
    (copy,) = copy_entries(select_entries("other"), "mine")
    assert not is_intact(copy)
    manifest_path(copy.path).unlink()
    with pytest.raises(UsageError, match=r"m\.gguf exists already"):
        copy_entries(select_entries("other"), "mine")


@pytest.mark.parametrize("name", ["tiny", "e2b", "../x", "Mine", ""])
def test_a_copy_needs_a_name_of_its_own(name: str) -> None:
    put_model("other")
    with pytest.raises(UsageError, match="name"):
        copy_entries(select_entries("other"), name)
    with pytest.raises(UsageError, match="already"):
        copy_entries(select_entries("other"), "other")


def test_one_type_of_a_model_or_all_are_removed() -> None:
    put_model("e2b", "a.gguf", Q4_0)
    put_model("e2b", "b.gguf", BF16)
    put_model("e2b", "mmproj.gguf", architecture="clip")
    assert [e.label for e in select_entries("e2b:bf16")] == ["e2b:bf16"]
    assert len(select_entries("e2b")) == len(select_entries("gemma-4-E2B-it")) == 3
    for entry in select_entries("e2b:bf16"):
        remove_entry(entry)
    assert [e.type for e in list_models() if e.role == "model"] == ["q4_0"]
    for entry in select_entries("e2b"):
        remove_entry(entry)
    assert not (models_dir() / "e2b").exists()


def put_partial(name: str) -> None:
    """Put what an interrupted download leaves into the store."""
    folder = model_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    for ending in ("part", "journal"):
        (folder / f".m-Q8_0.gguf.0123456789ab.{ending}").write_bytes(b"x" * 4096)


@pytest.mark.parametrize("text", ["e2b", "E2B", "gemma-4-E2B-it"])
def test_all_of_a_model_is_removed_by_any_of_its_names(text: str) -> None:
    put_partial("e2b")
    entries, unfinished = select_removable(text)
    assert (len(entries), len(unfinished)) == (0, 1)
    put_model("e2b")
    entries, unfinished = select_removable(text)
    assert (len(entries), len(unfinished)) == (1, 1)


def test_a_partial_file_is_not_removed_under_a_running_download() -> None:
    put_partial("e2b")
    (part,) = list_unfinished()
    with (
        hold_lock(part.path.with_name(part.file)),
        pytest.raises(UsageError, match="another g4 process is downloading m-Q8_0"),
    ):
        remove_entry(part)
    assert part.path.exists()
    remove_entry(part)
    assert not part.path.parent.exists()


def test_a_download_that_ends_while_the_store_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    put_partial("e2b")
    real = Path.is_file

    def end_download(path: Path) -> bool:
        found = real(path)
        path.with_suffix(".part").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "is_file", end_download)
    assert list_unfinished() == ()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("e2b", NotFound),
        ("e2b:q4_0", NotFound),
        ("nobody", UnknownModel),
        ("hf:a/b", NotFound),
        ("./x.gguf", UsageError),
    ],
)
def test_what_cannot_be_removed(text: str, error: type[G4Error]) -> None:
    with pytest.raises(error):
        select_entries(text)


def test_a_name_reads_no_headers_of_other_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("e2b", "e4b", "mine"):
        manifest_path(put_model(name)).unlink()
    read = []
    real = manifest.describe_file
    monkeypatch.setattr(
        manifest, "describe_file", lambda path, name: read.append(name) or real(path, name)
    )
    find_model_file("e4b")
    assert set(read) == {"e4b"}
    read.clear()
    assert len(list_models()) == len(read) == 3


@pytest.mark.parametrize("name", ["..", ".", "", "a/../..", "../models"])
def test_a_name_never_leaves_the_store(name: str) -> None:
    path = put_model("e2b")
    path.rename(models_dir().parent / path.name)
    assert list_entries(name) == ()


def test_only_gemma_4_text_models_are_pulled(tmp_path: Path) -> None:
    for architecture, words in (("gemma3", "Gemma 3"), ("clip", "mmproj")):
        keys = [("general.architecture", "str", architecture)]
        source = write_gguf(
            tmp_path / f"{architecture}.gguf", keys, [("a.weight", F32, (4, 1), None)]
        )
        with pytest.raises(BadGGUF, match=words) as caught:
            pull_path(source)
        assert caught.value.hint
        assert list_models() == ()


@pytest.mark.parametrize(
    ("name", "source", "repair"),
    [
        ("e2b", "hf:g/e@abc", "to restore it: g4 pull e2b:f32 --restart"),
        ("hf:a/b", "hf:a/b/m.gguf@abc", "to restore it: g4 pull hf:a/b/m.gguf@abc --restart"),
        ("hf:a/b", "made from hf:a/b@abc", "to restore it: g4 pull hf:a/b:f32 --restart"),
        # A copy of another model, and a file that the user put into the store.
        (
            "mine",
            "hf:g/e@abc",
            "g4 pull knows no model mine; to remove it: g4 remove mine:f32 --yes",
        ),
        ("mine", "found", "g4 pull knows no model mine; to remove it: g4 remove mine:f32 --yes"),
        (
            "m",
            "file:{}/a@b/m.gguf",
            "to restore it: g4 remove m:f32 --yes && g4 pull {}/a@b/m.gguf",
        ),
        # A local split file is pulled by its first part, which may be gone.
        (
            "s-00001-of-00002",
            "file:{}/s-00002-of-00002.gguf",
            "to restore it: g4 remove s-00001-of-00002:f32 --yes "
            "&& g4 pull {}/s-00001-of-00002.gguf",
        ),
        (
            "t",
            "file:{}/t-00002-of-00002.gguf",
            "it came from {}/t-00002-of-00002.gguf, which is gone; "
            "to remove it: g4 remove t:f32 --yes",
        ),
        (
            "mine",
            "file:{}/a@b@0123456789ab",
            "to restore it: g4 remove mine:f32 --yes && g4 pull {}/a@b --name mine",
        ),
    ],
)
def test_how_to_restore_a_file(tmp_path: Path, name: str, source: str, repair: str) -> None:
    (tmp_path / "a@b").mkdir()
    files = (
        "a@b/m.gguf",
        "s-00001-of-00002.gguf",
        "s-00002-of-00002.gguf",
        "t-00002-of-00002.gguf",
    )
    for file in files:
        (tmp_path / file).write_bytes(b"")
    path = put_model(name)
    entry = replace(read_manifest(path, name), type="f32", source=source.format(tmp_path))
    assert describe_repair(entry) == repair.format(tmp_path)


def test_a_file_that_may_not_be_read_is_wrong_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = read_manifest(put_model("e2b"), "e2b")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)
    verified = verify_entry(entry)
    assert verified.status == "wrong"
    assert "Permission denied" in verified.detail


def test_the_newest_model_is_one_that_g4_can_run() -> None:
    put_model("e2b")
    keys = [("general.architecture", "str", "gemma3")]
    model_folder("hf:a/b").mkdir()
    path = write_gguf(model_folder("hf:a/b") / "m.gguf", keys, [("a.weight", F32, (4, 1), None)])
    record_file(path, name="hf:a/b", source="hf:a/b/m.gguf", sha256="")
    manifest_path(path).write_text(
        manifest_path(path).read_text().replace('"date": "20', '"date": "30')
    )
    assert find_newest_model().entry.name == "e2b"

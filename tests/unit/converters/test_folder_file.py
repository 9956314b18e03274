"""Checkpoint folders from strangers: links, pipes, devices and bombs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from g4cli.converters.checkpoint import MAX_JSON_BYTES_OF, open_checkpoint, read_json
from g4cli.converters.convert import convert_checkpoint
from g4cli.converters.folder_file import open_inside, read_inside
from g4cli.converters.model_card import parse_card, read_card
from g4cli.core.errors import BadCheckpoint
from tests.support.builders.checkpoints import copy_tiny

NAMES = (
    "config.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json",
    "chat_template.json", "chat_template.jinja", "README.md", "tokenizer.json",
    "model.safetensors",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_tiny(tmp_path / "tiny")


def replaced(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


def converted(folder: Path, tmp_path: Path) -> None:
    convert_checkpoint(folder, tmp_path / "out.gguf")


@pytest.mark.parametrize("name", NAMES)
def test_links_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path, name: str) -> None:
    if name == "chat_template.json":
        replaced(folder / "chat_template.jinja")
    secret = tmp_path / "id_rsa"
    secret.write_text("PRIVATE KEY")
    replaced(folder / name).symlink_to(secret)
    with pytest.raises(BadCheckpoint, match="outside of its folder"):
        converted(folder, tmp_path)
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize("name", NAMES)
def test_pipes_are_refused_at_once(folder: Path, tmp_path: Path, name: str) -> None:
    if name == "chat_template.json":
        replaced(folder / "chat_template.jinja")
    os.mkfifo(replaced(folder / name))
    with pytest.raises(BadCheckpoint):
        converted(folder, tmp_path)


def test_an_endless_device_and_a_loop_of_links(folder: Path) -> None:
    (folder / "zero.json").symlink_to("/dev/zero")
    (folder / "loop.json").symlink_to("loop.json")
    for name in ("zero.json", "loop.json"):
        with pytest.raises(BadCheckpoint):
            read_json(folder / name)


def test_links_inside_the_folder_and_in_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    repository = tmp_path / "models--google--gemma-4-E2B"
    snapshot, blobs = repository / "snapshots" / ("0" * 40), repository / "blobs"
    blobs.mkdir(parents=True)
    snapshot.parent.mkdir()
    copy_tiny(snapshot)
    for number, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(f"../../blobs/{number}")
    convert_checkpoint(snapshot, tmp_path / "out.gguf")
    (snapshot / "again.json").symlink_to("config.json")
    assert read_json(snapshot / "again.json")
    elsewhere = repository / "refs"
    elsewhere.write_text("{}")
    (snapshot / "out.json").symlink_to("../../refs")
    with pytest.raises(BadCheckpoint, match="outside of its folder"):
        open_inside(snapshot / "out.json")


def test_files_are_read_up_to_the_limit_of_their_kind(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text('{"a": [' + "{}," * (1 << 19) + "{}]}")
    with pytest.raises(BadCheckpoint, match="more than 1,048,576 bytes"):
        read_json(path)
    assert MAX_JSON_BYTES_OF["tokenizer.json"] == 64 << 20
    with pytest.raises(BadCheckpoint, match="more than 3 bytes"):
        read_inside(folder / "tokenizer_config.json", 3)


def test_a_shard_with_a_name_that_no_disk_takes(folder: Path) -> None:
    replaced(folder / "model.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "%s"}}' % ("x" * 5000))
    with pytest.raises(BadCheckpoint, match="shard names that are too long") as caught:
        open_checkpoint(folder)
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize(
    "matter",
    [
        "name: a" + " " * 60_000 + "b",  # was quadratic: 26 s for 80,000 blanks
        "a: &a [x, x]\n" + "".join(f"k{i}: &k{i} [*a, *a]\n" for i in range(200)),
        "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\n" + "c: &c {<<: [*b, *b]}\n" * 300,
        "x: " + "[" * 30_000,
        "x: " + "{" * 30_000,
        "- " * 20_000,
        "? " * 20_000,
    ],
)
def test_front_matters_from_hell(matter: str, tmp_path: Path) -> None:
    begun = time.process_time()
    parse_card(f"---\n{matter}\n---\n")
    assert time.process_time() - begun < 20
    card = tmp_path / "README.md"
    card.write_text("---\nname: a\n---\n" + "x" * (2 << 20))
    assert read_card(card).find_text("name") == "a"

"""Sources: parts of a split model, and what they must agree on."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.core.errors import BadGGUF
from g4cli.quant.source import open_source
from tests.support.builders.gguf import F32, Key, build_gguf, gemma4_keys

A, B = ("a.weight", F32, (4,), b"\0" * 16), ("b.weight", F32, (4,), b"\1" * 16)


def split_keys(number: int, *, count: int = 2, tensors: int = 2) -> list[Key]:
    return [
        ("split.no", "u16", number),
        ("split.count", "u16", count),
        ("split.tensors.count", "i32", tensors),
    ]


def write(folder: Path, number: int, data: bytes, count: int = 2) -> Path:
    path = folder / f"m-{number:05d}-of-{count:05d}.gguf"
    path.write_bytes(data)
    return path


def test_parts_are_one_model(tmp_path: Path) -> None:
    first = write(tmp_path, 1, build_gguf([*gemma4_keys(), *split_keys(0)], [A]))
    second = write(tmp_path, 2, build_gguf(split_keys(1), [B]))
    source = open_source(first)
    assert list(source.tensors) == ["a.weight", "b.weight"]
    assert source.owner["b.weight"].path == str(second)
    assert source.nbytes == first.stat().st_size + second.stat().st_size
    assert source.paths == (first, second)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([(split_keys(0, tensors=3), A), (split_keys(1), B)], "hold 2 tensors, 3 are announced"),
        ([(split_keys(0), A), (split_keys(1), A)], "is in .* too"),
        ([(split_keys(0), A), (split_keys(0), B)], "is not part 2"),
        ([(split_keys(0), A), ([], B)], "is not part 2"),
    ],
)
def test_parts_that_do_not_belong_together(
    tmp_path: Path, parts: list[tuple[list[Key], tuple[str, int, tuple[int], bytes]]], message: str
) -> None:
    for number, (keys, tensor) in enumerate(parts, 1):
        write(
            tmp_path, number, build_gguf([*(gemma4_keys() if number == 1 else []), *keys], [tensor])
        )
    with pytest.raises(BadGGUF, match=message):
        open_source(tmp_path / "m-00001-of-00002.gguf")


def test_a_first_part_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "renamed.gguf"
    path.write_bytes(build_gguf([*gemma4_keys(), *split_keys(0)], [A]))
    with pytest.raises(BadGGUF, match="-00001-of-00002"):
        open_source(path)


def test_a_split_archive_is_refused(tmp_path: Path) -> None:
    keys = gemma4_keys(replace={"general.architecture": ("str", "gemma4-sfp8")})
    first = write(tmp_path, 1, build_gguf([*keys, *split_keys(0)], [A]))
    write(tmp_path, 2, build_gguf(split_keys(1), [B]))
    with pytest.raises(BadGGUF, match="one file"):
        open_source(first)

"""SFP8 archives: one byte per weight, self-describing, refused by llama.cpp, expanded exactly."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from g4cli.cli.main import run
from g4cli.core.errors import BadFile, BadGGUF, UsageError
from g4cli.core.gguf import read_header
from g4cli.quant.expand import make_runnable
from g4cli.quant.file import Quantized, quantize_file
from g4cli.quant.recipes import Recipe
from g4cli.quant.sfp8_archive import expanded_header
from tests.support.builders.weights import write_network
from tests.unit.quant.test_sfp8 import WORDS

CODED = "blk.0.ffn_down.weight"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BF16 network, its archive, and the archive's values on a BF16 container, made directly."""
    folder = tmp_path_factory.mktemp("sfp8")
    source = write_network(folder / "net.gguf", n_layer=3, n_embd=128, n_ff=96, ple=32, sigma=0.4)
    quantize_file(source, folder / "archive.gguf", recipe=Recipe("sfp8"))
    quantize_file(source, folder / "container.gguf", recipe=Recipe("sfp8", container="bf16"))
    return folder


def tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    header, data = read_header(path), path.read_bytes()
    return {
        t.name: (
            t.type.name,
            t.shape,
            data[header.file_offset(t) : header.file_offset(t) + t.nbytes],
        )
        for t in header.tensors.values()
    }


def test_archive_describes_itself(files: Path) -> None:
    """Read with gguf-py: codes through the file's own table, times the scale, are the container's
    values.
    """
    reader = gguf.GGUFReader(files / "archive.gguf")
    keys = {k: f.contents() for k, f in reader.fields.items()}
    assert keys["general.architecture"] == "gemma4-sfp8"
    assert "general.file_type" not in keys
    assert keys["gemma4.block_count"] == 3
    assert keys["g4.format"] == "SFP8"
    assert keys["g4.sfp8.reserved"] == 0x80
    assert keys["g4.source.sha256"] == hashlib.sha256((files / "net.gguf").read_bytes()).hexdigest()
    table = np.array(keys["g4.sfp8.decode_bf16"], np.uint16)
    assert {c: int(w) for c, w in enumerate(table) if c != 0x80} == WORDS
    assert keys["g4.sfp8.decode_sha256"] == hashlib.sha256(table.tobytes()).hexdigest()
    values = (table.astype(np.uint32) << 16).view(np.float32)
    data = {t.name: t.data for t in reader.tensors}
    container = tensors(files / "container.gguf")
    for name in keys["g4.sfp8.tensors"]:
        scale = float(data[name + ".sfp8_scale"][0])
        exact = values[data[name].view(np.uint8)] * np.float32(scale)
        words = np.frombuffer(container[name][2], np.uint16)
        assert np.array_equal(
            exact.reshape(-1), (words.astype(np.uint32) << 16).view(np.float32)
        ), name
    assert set(keys["g4.sfp8.tensors"]) == {
        n for n, t in tensors(files / "archive.gguf").items() if t[0] == "I8"
    }


def test_an_archive_is_one_byte_per_weight(files: Path) -> None:
    held = tensors(files / "archive.gguf")
    coded = [(shape, data) for kind, shape, data in held.values() if kind == "I8"]
    assert all(len(data) == int(np.prod(shape)) for shape, data in coded)
    assert sum(len(d) for _, d in coded) > 0.7 * sum(len(t[2]) for t in held.values())


def test_expansion_gives_back_exactly_the_values(files: Path, tmp_path: Path) -> None:
    quantize_file(files / "archive.gguf", tmp_path / "a.gguf", recipe=Recipe("bf16"))
    for path in (tmp_path / "a.gguf", make_runnable(files / "archive.gguf", tmp_path)):
        assert tensors(path) == tensors(files / "container.gguf"), path
        ours, theirs = read_header(path).keys, read_header(files / "container.gguf").keys
        same = [k for k in theirs if not k.startswith(("g4.recipe", "g4.source"))]
        assert {k: ours[k] for k in same} == {k: theirs[k] for k in same}
        assert ours["g4.source.file"].data == "archive.gguf"


def test_expansion_to_single_precision_is_exact_too(files: Path, tmp_path: Path) -> None:
    done = quantize_file(files / "archive.gguf", tmp_path / "f.gguf", recipe=Recipe("f32"))
    words = np.frombuffer(tensors(files / "container.gguf")[CODED][2], np.uint16)
    assert tensors(done.path)[CODED][2] == (words.astype(np.uint32) << 16).tobytes()


def test_archives_and_containers_quantize_alike(files: Path, tmp_path: Path) -> None:
    made: list[Quantized] = []
    for name in ("archive", "container"):
        with pytest.raises(UsageError, match="already quantized"):
            quantize_file(files / f"{name}.gguf", tmp_path / "x.gguf", recipe=Recipe("q4_0"))
        made.append(
            quantize_file(
                files / f"{name}.gguf",
                tmp_path / f"{name}-q.gguf",
                recipe=Recipe("q4_0"),
                allow_requantize=True,
            )
        )
    assert tensors(made[0].path) == tensors(made[1].path)
    assert "g4.format" not in read_header(made[0].path).keys


def test_expansion_to_q8_0_is_labelled(files: Path, tmp_path: Path) -> None:
    expanded = make_runnable(files / "archive.gguf", tmp_path, container="q8_0")
    keys = read_header(expanded).keys
    assert keys["g4.format"].data == "SFP8 rounded, stored as Q8_0"
    assert keys["general.file_type"].data == 7
    direct = quantize_file(
        files / "net.gguf", tmp_path / "direct.gguf", recipe=Recipe("sfp8", container="q8_0")
    )
    assert tensors(expanded)[CODED] == tensors(direct.path)[CODED]


def test_a_second_archive_from_the_first_has_the_same_values(files: Path, tmp_path: Path) -> None:
    """Codes and scale may move by one binade together: the largest value can have been rounded to
    1.875.
    """
    again = quantize_file(
        files / "archive.gguf",
        tmp_path / "again.gguf",
        recipe=Recipe("sfp8"),
        allow_requantize=True,
    )
    assert tensors(make_runnable(again.path, tmp_path)) == tensors(files / "container.gguf")


def test_an_archive_is_expanded_once(files: Path, tmp_path: Path) -> None:
    plain = files / "container.gguf"
    assert make_runnable(plain, tmp_path) == plain
    first = make_runnable(files / "archive.gguf", tmp_path / "cache")
    stamp = first.stat().st_mtime_ns
    assert tensors(first) == tensors(plain)
    assert make_runnable(files / "archive.gguf", tmp_path / "cache") == first
    assert first.stat().st_mtime_ns == stamp
    other = quantize_file(
        files / "net.gguf",
        tmp_path / "archive.gguf",
        recipe=Recipe("sfp8", sfp8_encoder="gemma.cpp"),
    )
    assert make_runnable(other.path, tmp_path / "cache") != first
    small = make_runnable(files / "archive.gguf", tmp_path / "cache", container="q8_0")
    assert small.stat().st_size < 0.8 * first.stat().st_size


def test_an_archive_is_sized_as_its_expansion(files: Path) -> None:
    header = read_header(files / "archive.gguf")
    plain, real = expanded_header(header), read_header(files / "container.gguf")
    assert plain.architecture == "gemma4"
    assert [(t.name, t.type, t.shape, t.offset, t.nbytes) for t in plain.tensors.values()] == [
        (t.name, t.type, t.shape, t.offset, t.nbytes) for t in real.tensors.values()
    ]
    assert expanded_header(real) is real


def test_the_doctor_knows_archives(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["doctor", str(files / "archive.gguf"), "--json"])
    found = {f["id"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert found["keys.architecture"]["status"] == "ok"
    assert "SFP8 archive" in found["keys.architecture"]["found"]


def patched(files: Path, path: Path, old: bytes, new: bytes) -> Path:
    data = (files / "archive.gguf").read_bytes()
    assert data.count(old) >= 1
    path.write_bytes(data.replace(old, new, 1))
    return path


def test_damaged_archives_are_refused(files: Path, tmp_path: Path) -> None:
    header = read_header(files / "archive.gguf")
    cache, bad = tmp_path / "cache", tmp_path / "bad.gguf"
    table = struct.pack("<3H", 0, 0x3420, 0x3440)
    patched(files, bad, table, struct.pack("<3H", 0, 0x3420, 0x3441))
    with pytest.raises(BadGGUF, match="not the table of SFP8"):
        make_runnable(bad, cache)
    scale = header.file_offset(header.tensors[CODED + ".sfp8_scale"])
    data = bytearray((files / "archive.gguf").read_bytes())
    for value in (0.0, 1.5, -2.0, float("nan"), float("inf"), 2.0**90):
        data[scale : scale + 4] = struct.pack("<f", value)
        bad.write_bytes(data)
        with pytest.raises(BadGGUF, match="not a power of two"):
            make_runnable(bad, cache)
    data = bytearray((files / "archive.gguf").read_bytes())
    data[header.file_offset(header.tensors[CODED]) + 5] = 0x80
    bad.write_bytes(data)
    with pytest.raises(BadFile, match="reserved"):
        make_runnable(bad, cache)
    assert not list(cache.glob("*"))

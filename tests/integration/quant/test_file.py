"""quantize_file against llama.cpp's own quantizer: every tensor byte, every type, every key."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from g4cli.core.errors import BadFile, BadGGUF, FileMissing, Interrupted, NoSpace, UsageError
from g4cli.core.gguf import read_header
from g4cli.core.gguf_header import Header
from g4cli.quant import encode
from g4cli.quant.file import check_target, default_target, quantize_file
from g4cli.quant.recipes import TYPES, Recipe
from tests.support.builders.gguf import BF16, F32, build_gguf, gemma4_keys, write_gguf
from tests.support.builders.weights import KINDS, bf16, names_and_shapes, tensors, write_network
from tests.support.run.llama_quantize import FTYPES, expect

LLAMA_TYPES = [t for t in TYPES if t != "sfp8"]
# All types on the E-kind network, those with rules of their own on the others; tests/oracle has the
# rest.
MATRIX = [
    *(
        (kind, name, False)
        for kind, names in (
            ("e", LLAMA_TYPES),
            ("moe", ["q4_0", "q4_k_m", "q3_k_m", "mxfp4"]),
            ("odd", ["q4_0", "q4_k_m", "q2_k", "iq4_xs"]),
        )
        for name in names
    ),
    ("e", "q4_0", True),
    ("odd", "q4_k_m", True),
    ("moe", "mxfp4", True),
]


def data_of(path: Path, header: Header) -> bytes:
    return path.read_bytes()[header.data_offset :]


def assert_equal_files(ours: Path, theirs: Path) -> None:
    a, b = read_header(ours), read_header(theirs)
    assert [(t.name, t.type.name, t.shape) for t in a.tensors.values()] == [
        (t.name, t.type.name, t.shape) for t in b.tensors.values()
    ]
    mine = [(k, v) for k, v in a.keys.items() if not k.startswith("g4.")]
    assert mine == list(b.keys.items())
    assert data_of(ours, a) == data_of(theirs, b)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source for each kind of network."""
    folder = tmp_path_factory.mktemp("llama")
    for kind, options in KINDS.items():
        write_network(folder / f"{kind}.gguf", **options)
    return folder


@pytest.fixture(scope="module")
def references(sources: Path) -> Path:
    """The same folder, with llama.cpp's own file for every row of the matrix."""
    folder, jobs = sources, []
    for kind, name, pure in MATRIX:
        source, target = folder / f"{kind}.gguf", folder / f"{kind}-{name}-{pure}.gguf"
        jobs.append({"source": str(source), "target": str(target), "type": name, "pure": pure})
    assert expect(jobs) == [0] * len(jobs)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "pure"), MATRIX)
def test_every_type_equals_llama_cpp(
    references: Path, tmp_path: Path, kind: str, name: str, pure: bool
) -> None:
    done = quantize_file(
        references / f"{kind}.gguf", tmp_path / "out.gguf", recipe=Recipe(name, pure=pure)
    )
    assert_equal_files(done.path, references / f"{kind}-{name}-{pure}.gguf")
    assert done.nbytes == done.path.stat().st_size
    assert done.sha256 == hashlib.sha256(done.path.read_bytes()).hexdigest()


def test_the_table_of_types_names_the_same_numbers() -> None:
    from g4cli.quant.mixtures import FILE_TYPES

    assert {t.name: t.ftype for t in FILE_TYPES if t.name != "sfp8"} == FTYPES


@pytest.mark.slow
def test_small_blocks_change_nothing(
    references: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block of one row, and one thread: the bytes must not depend on how the work is cut."""
    from g4cli.quant import reader

    monkeypatch.setattr(reader, "BLOCK_WEIGHTS", 1)
    out = tmp_path / "out.gguf"
    quantize_file(references / "moe.gguf", out, recipe=Recipe("q4_k_m"), threads=1)
    assert_equal_files(out, references / "moe-q4_k_m-False.gguf")


@pytest.mark.slow
def test_overrides_equal_llama_cpp(sources: Path, tmp_path: Path) -> None:
    source, theirs = sources / "e.gguf", tmp_path / "theirs.gguf"
    # Q6_K 14, Q5_K 13: ggml's numbers
    overrides = [("per_layer_token_embd", 14), (r"blk\.[0-1]\.ffn_down", 13)]
    job = {"source": str(source), "target": str(theirs), "type": "q4_k_m", "overrides": overrides}
    assert expect([job]) == [0]
    recipe = Recipe(
        "q4_k_m", overrides=(("per_layer_token_embd", "Q6_K"), (r"blk\.[0-1]\.ffn_down", "Q5_K"))
    )
    quantize_file(source, tmp_path / "out.gguf", recipe=recipe)
    assert_equal_files(tmp_path / "out.gguf", theirs)


@pytest.mark.slow
def test_requantizing_equals_llama_cpp(references: Path, tmp_path: Path) -> None:
    source, theirs = references / "e-q8_0-False.gguf", tmp_path / "theirs.gguf"
    job = {"source": str(source), "target": str(theirs), "type": "q4_0", "allow_requantize": True}
    assert expect([job]) == [0]
    out = tmp_path / "out.gguf"
    with pytest.raises(UsageError, match="already quantized"):
        quantize_file(source, out, recipe=Recipe("q4_0"))
    assert not out.exists()
    quantize_file(source, out, recipe=Recipe("q4_0"), allow_requantize=True)
    assert_equal_files(out, theirs)


def test_provenance_is_rewritten_on_every_step(sources: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    quantize_file(sources / "e.gguf", first, recipe=Recipe("sfp8", container="bf16"))
    keys = read_header(first).keys
    assert keys["g4.format"].data == "SFP8"
    assert (
        keys["g4.source.sha256"].data
        == hashlib.sha256((sources / "e.gguf").read_bytes()).hexdigest()
    )
    quantize_file(first, second, recipe=Recipe("q4_0"), allow_requantize=True)
    keys = read_header(second).keys
    assert "g4.format" not in keys, "a Q4_0 file must not claim to be SFP8"
    assert keys["g4.recipe"].data == "q4_0"
    assert keys["g4.source.file"].data == "first.gguf"
    assert keys["g4.source.sha256"].data == hashlib.sha256(first.read_bytes()).hexdigest()


def test_sfp8_files_count_as_quantized(sources: Path, tmp_path: Path) -> None:
    rounded = tmp_path / "sfp8.gguf"
    quantize_file(sources / "e.gguf", rounded, recipe=Recipe("sfp8", container="bf16"))
    with pytest.raises(UsageError, match="SFP8"):
        quantize_file(rounded, tmp_path / "out.gguf", recipe=Recipe("q4_0"))
    quantize_file(
        rounded, tmp_path / "out.gguf", recipe=Recipe("f32")
    )  # holds every value: no loss


@pytest.mark.parametrize(
    ("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")]
)
@pytest.mark.parametrize("name", ["q4_0", "sfp8"])
def test_bad_weights_are_named_with_their_place(
    tmp_path: Path, value: float, word: str, name: str
) -> None:
    rows = names_and_shapes(2, 64, 64, 0, 0)
    made = tensors(rows)
    index = [t[0] for t in made].index("blk.1.attn_k.weight")
    words = np.frombuffer(made[index][3], np.uint16).copy()  # type: ignore[arg-type]
    words[64 * 5 + 7] = bf16(np.array([value], np.float32))[0]
    made[index] = (*made[index][:3], words.tobytes())
    source = write_gguf(tmp_path / "an in.gguf", gemma4_keys(2, 64), made)
    where = rf"blk\.1\.attn_k\.weight is {word} at row 5, column 7"
    with pytest.raises(BadFile, match=where) as caught:
        quantize_file(source, tmp_path / "out.gguf", recipe=Recipe(name, container="bf16"))
    assert caught.value.hint == f"g4 doctor '{source}'"
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["an in.gguf"]


def test_weights_that_are_only_copied_are_checked_too(tmp_path: Path) -> None:
    norm, words = np.ones(64, "<f4"), bf16(np.ones(64 * 4, np.float32))
    norm[5], words[2 * 64 + 9] = np.nan, 0xFF80
    plain = ("blk.0.ffn_up.weight", BF16, (64, 4), bf16(np.ones(256, np.float32)).tobytes())
    half = np.ones(64, "<f2")
    half[63] = np.inf
    block = np.array([np.inf], "<f2").tobytes() + bytes(32)
    for type_name, tensors_, words_ in (
        (
            "q4_0",
            [("blk.0.attn_norm.weight", F32, (64,), norm.tobytes()), plain],
            "NaN at row 0, column 5",
        ),
        (
            "bf16",
            [("blk.0.ffn_up.weight", BF16, (64, 4), words.tobytes())],
            "infinite at row 2, column 9",
        ),
        (
            "q8_0",
            [("blk.0.x.weight", 1, (64,), half.tobytes()), plain],
            "infinite at row 0, column 63",
        ),
        (
            "q8_0",
            [("blk.0.ffn_up.weight", 8, (32, 2), bytes(34) + block)],
            "scale is NaN or infinite",
        ),
    ):
        source = write_gguf(tmp_path / "in.gguf", gemma4_keys(1, 64), cast("Any", tensors_))
        with pytest.raises(BadFile, match=words_):
            quantize_file(source, tmp_path / "out.gguf", recipe=Recipe(type_name))
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["in.gguf"]


def test_infinite_limits_of_clipped_layers_are_no_damage(tmp_path: Path) -> None:
    limit = ("a.blk.0.ffn_up.input_max", F32, (1,), np.array([np.inf], "<f4").tobytes())
    keys = [("general.architecture", "str", "clip"), ("general.type", "str", "mmproj")]
    source = write_gguf(tmp_path / "mmproj.gguf", keys, [limit])
    done = quantize_file(source, tmp_path / "out.gguf", recipe=Recipe("q8_0"))
    assert done.path.read_bytes().endswith(limit[3] + bytes(28))


@pytest.mark.parametrize("known", [False, True])
def test_hashes_of_source_and_result(sources: Path, tmp_path: Path, known: bool) -> None:
    source = sources / "e.gguf"
    theirs = hashlib.sha256(source.read_bytes()).hexdigest()
    options: dict[str, Any] = {
        "recipe": Recipe("q8_0"),
        "source_sha256": theirs if known else None,
    }
    done = quantize_file(source, tmp_path / "a.gguf", **options)
    assert done.sha256 == hashlib.sha256(done.path.read_bytes()).hexdigest()
    assert read_header(done.path).keys["g4.source.sha256"].data == theirs
    again = quantize_file(source, tmp_path / "b.gguf", hashed=False, **options)
    assert again.sha256 == ""
    assert again.path.read_bytes() == done.path.read_bytes()


def test_overflow_of_half_precision_is_an_error(tmp_path: Path) -> None:
    data = bf16(np.full(64 * 64, 1e5, np.float32)).tobytes()
    source = write_gguf(
        tmp_path / "in.gguf", gemma4_keys(1, 64), [("blk.0.ffn_up.weight", BF16, (64, 64), data)]
    )
    with pytest.raises(BadFile, match="overflow F16"):
        quantize_file(source, tmp_path / "out.gguf", recipe=Recipe("f16"))


def test_zero_blocks_are_counted(tmp_path: Path) -> None:
    values = np.ones((4, 64), np.float32)
    values[1, :32] = 0
    values[2] = 0
    for name in ("q4_0", "q8_0", "q5_0", "q4_1"):
        source = write_gguf(
            tmp_path / "in.gguf",
            gemma4_keys(1, 64),
            [("blk.0.ffn_up.weight", BF16, (64, 4), bf16(values.reshape(-1)).tobytes())],
        )
        done = quantize_file(source, tmp_path / f"{name}.gguf", recipe=Recipe(name))
        assert done.as_json()["zero_blocks"] == 3, name
        assert "3 blocks contain only zeros (harmless)" in done.list_notes()
        assert any("3 blocks" in note for note in done.list_notes())


def test_target_rules(sources: Path, tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    source.write_bytes((sources / "odd.gguf").read_bytes())
    (tmp_path / "link.gguf").symlink_to(source)
    before = source.read_bytes()
    for target in (source, tmp_path / "link.gguf"):
        with pytest.raises(UsageError, match="is the source itself"):
            quantize_file(source, target, recipe=Recipe("q4_0"), force=True)
    with pytest.raises(UsageError, match="is a directory"):  # before hours of other work
        check_target(source, tmp_path, force=True)
    old = tmp_path / "old.gguf"
    old.write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists"):
        quantize_file(source, old, recipe=Recipe("q4_0"))
    assert old.read_bytes() == b"precious"
    quantize_file(source, old, recipe=Recipe("q4_0"), force=True)
    assert old.read_bytes()[:4] == b"GGUF"
    assert source.read_bytes() == before


def test_a_full_disk_leaves_the_old_file(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old.gguf"
    old.write_bytes(b"precious")
    monkeypatch.setattr(
        "g4cli.core.files.shutil.disk_usage", lambda _: os.terminal_size((1, 1)) and _Usage()
    )
    with pytest.raises(NoSpace):
        quantize_file(sources / "odd.gguf", old, recipe=Recipe("q4_0"), force=True)
    assert [p.read_bytes() for p in tmp_path.iterdir() if p.is_file()] == [b"precious"]


def test_an_interrupted_run_leaves_nothing(sources: Path, tmp_path: Path) -> None:
    def stop(_done: int, _total: int, label: str) -> None:
        if label.startswith("blk.2"):
            raise KeyboardInterrupt

    target = tmp_path / "o.gguf"
    with pytest.raises(Interrupted, match="nothing was kept"):
        quantize_file(sources / "e.gguf", target, recipe=Recipe("q4_0"), progress=stop)
    assert [p for p in tmp_path.iterdir() if p.is_file()] == []
    target.write_bytes(b"precious")
    with pytest.raises(Interrupted, match=r"o\.gguf was not changed"):
        quantize_file(sources / "e.gguf", target, recipe=Recipe("q4_0"), progress=stop, force=True)
    assert [p.read_bytes() for p in tmp_path.iterdir() if p.is_file()] == [b"precious"]


class _Usage:
    total = used = 0
    free = 10


def test_split_models_are_read_whole(tmp_path: Path) -> None:
    rows = names_and_shapes(4, 160, 72, 32, 0)
    made = tensors(rows)
    half = len(made) // 2
    keys = gemma4_keys(4, 160)
    whole = write_gguf(tmp_path / "whole.gguf", keys, made)
    for number, part in enumerate((made[:half], made[half:])):
        split = [
            ("split.no", "u16", number),
            ("split.count", "u16", 2),
            ("split.tensors.count", "i32", len(made)),
        ]
        (tmp_path / f"s-{number + 1:05d}-of-00002.gguf").write_bytes(
            build_gguf([*(keys if number == 0 else []), *split], part)
        )
    parts = [tmp_path / f"s-{number:05d}-of-00002.gguf" for number in (1, 2)]
    a = quantize_file(whole, tmp_path / "a.gguf", recipe=Recipe("q4_0"))
    # The store knows the hash of the first part only, but that of all parts is recorded.
    b = quantize_file(parts[0], tmp_path / "b.gguf", recipe=Recipe("q4_0"), source_sha256="f" * 64)
    ha, hb = read_header(a.path), read_header(b.path)
    whole_hash = hashlib.sha256(parts[0].read_bytes() + parts[1].read_bytes()).hexdigest()
    assert hb.keys["g4.source.sha256"].data == whole_hash
    with pytest.raises(UsageError, match="is the source itself"):
        quantize_file(parts[0], parts[1], recipe=Recipe("q4_0"), force=True)
    assert data_of(a.path, ha) == data_of(b.path, hb)
    assert [k for k in hb.keys if k.startswith("split.")] == []
    with pytest.raises(BadGGUF, match="not the first part"):
        quantize_file(
            tmp_path / "s-00002-of-00002.gguf", tmp_path / "c.gguf", recipe=Recipe("q4_0")
        )
    (tmp_path / "s-00002-of-00002.gguf").unlink()
    with pytest.raises(FileMissing, match="00002-of-00002"):
        quantize_file(
            tmp_path / "s-00001-of-00002.gguf", tmp_path / "c.gguf", recipe=Recipe("q4_0")
        )


def test_files_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadGGUF, match="vocabulary"):
        quantize_file(
            write_gguf(tmp_path / "v.gguf", gemma4_keys()), tmp_path / "o", recipe=Recipe("q4_0")
        )
    integers = write_gguf(
        tmp_path / "i.gguf", gemma4_keys(1, 64), [("blk.0.ffn_up.weight", 24, (64, 4), None)]
    )
    with pytest.raises(BadGGUF, match="I8 weights cannot be read"):
        quantize_file(integers, tmp_path / "o", recipe=Recipe("q4_0"))


@pytest.mark.slow
def test_half_and_single_precision_sources(tmp_path: Path) -> None:
    """Any source type gives what llama.cpp gives from it."""
    values = np.random.default_rng(3).normal(0, 0.02, 256 * 8).astype(np.float32)
    jobs = []
    for name, type_id, data in (
        ("f32", F32, values.tobytes()),
        ("f16", 1, values.astype("<f2").tobytes()),
    ):
        write_gguf(
            tmp_path / f"{name}.gguf",
            gemma4_keys(1, 256),
            [("blk.0.ffn_up.weight", type_id, (256, 8), data)],
        )
        for target in ("q4_0", "q6_k", "bf16"):
            jobs.append(
                {
                    "source": str(tmp_path / f"{name}.gguf"),
                    "target": str(tmp_path / f"{name}-{target}.gguf"),
                    "type": target,
                }
            )
    assert expect(jobs) == [0] * 6
    for job in jobs:
        out = tmp_path / "out.gguf"
        quantize_file(Path(job["source"]), out, recipe=Recipe(job["type"]), force=True)
        assert_equal_files(out, Path(job["target"]))


@pytest.mark.parametrize(
    ("source", "type_name", "target"),
    [
        ("gemma-4-E2B-it-BF16.gguf", "q4_0", "gemma-4-E2B-it-Q4_0.gguf"),
        ("tiny-bf16.gguf", "sfp8", "tiny-sfp8.gguf"),
        ("tiny.gguf", "q4_k_m", "tiny-Q4_K_M.gguf"),
        ("m.f16.gguf", "q8_0", "m.q8_0.gguf"),
        ("m-Q4_K_M.gguf", "q6_k", "m-Q6_K.gguf"),
        ("m-BF16-00001-of-00003.gguf", "q4_0", "m-Q4_0.gguf"),
        ("bf16er.gguf", "q4_0", "bf16er-Q4_0.gguf"),
    ],
)
def test_default_names(source: str, type_name: str, target: str) -> None:
    assert default_target(Path("d") / source, type_name) == Path("d") / target


def test_memory_in_flight_is_bounded() -> None:
    """A few blocks per thread, each about 1 MB as floats."""
    assert encode.BLOCK_WEIGHTS * 4 * 3 <= 4 * 1024**2

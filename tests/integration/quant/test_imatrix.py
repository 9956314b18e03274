"""Importance matrices: both forms, llama.cpp's bytes with them, and files that are none."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from g4cli.core.errors import BadFile, BadGGUF, FileMissing
from g4cli.core.gguf import read_header
from g4cli.quant.file import quantize_file
from g4cli.quant.imatrix import read_imatrix
from g4cli.quant.recipes import Recipe, kept_reason
from tests.support.builders.gguf import F32, build_gguf
from tests.support.builders.weights import write_network
from tests.support.run.llama_quantize import expect

CALLS = 7
KEYS: list[Any] = [
    ("general.type", "str", "imatrix"),
    ("imatrix.datasets", "[str]", ["calm.txt"]),
    ("imatrix.chunk_count", "u32", 12),
    ("imatrix.chunk_size", "u32", 512),
]


def sums_for(model: Path) -> dict[str, NDArray[np.float32]]:
    """Random positive sums of squares for every matrix but the per-layer table."""
    rng = np.random.default_rng(11)
    return {
        t.name: rng.uniform(0.01, 50, t.shape[0] * (t.shape[2] if len(t.shape) > 2 else 1)).astype(
            np.float32
        )
        for t in read_header(model).tensors.values()
        if not kept_reason(t.name, t.shape) and t.name != "per_layer_token_embd.weight"
    }


def dat(
    sums: dict[str, NDArray[np.float32]], *, n: int | None = None, tail: bytes | None = None
) -> bytes:
    """The older form, byte by byte."""
    parts = [struct.pack("<i", len(sums) if n is None else n)]
    for name, values in sums.items():
        parts += [
            struct.pack("<i", len(name)),
            name.encode(),
            struct.pack("<ii", CALLS, len(values)),
        ]
        parts.append(values.tobytes())
    return b"".join(parts) + (struct.pack("<ii", 12, 8) + b"calm.txt" if tail is None else tail)


def as_gguf(sums: dict[str, NDArray[np.float32]], n_expert: int = 1, calls: int = CALLS) -> bytes:
    """The newer form."""
    tensors: list[Any] = []
    for name, values in sums.items():
        experts = n_expert if "_exps" in name else 1
        shape = (len(values) // experts, experts)
        tensors.append((name + ".in_sum2", F32, shape, values.tobytes()))
        counts = np.full(experts, calls, np.float32)
        if experts > 1:
            counts[1] = 0  # an expert that was never called
        tensors.append((name + ".counts", F32, (1, experts), counts.tobytes()))
    return build_gguf(KEYS, tensors)


def test_both_forms_give_the_same_weights(tmp_path: Path) -> None:
    model = write_network(tmp_path / "net.gguf", n_layer=1)
    sums = sums_for(model)
    (tmp_path / "a.dat").write_bytes(dat(sums))
    (tmp_path / "a.gguf").write_bytes(as_gguf(sums))
    old, new = read_imatrix(tmp_path / "a.dat"), read_imatrix(tmp_path / "a.gguf")
    for name, values in sums.items():
        assert np.array_equal(old.weights[name], values / np.float32(CALLS))
        assert np.array_equal(new.weights[name], old.weights[name])
    assert (old.datasets, old.n_chunks) == (new.datasets, new.n_chunks) == (("calm.txt",), 12)
    assert [(k, v.data) for k, v in old.provenance_keys().items()] == [
        ("quantize.imatrix.file", str(tmp_path / "a.dat")),
        ("quantize.imatrix.dataset", "calm.txt"),
        ("quantize.imatrix.entries_count", len(sums)),
        ("quantize.imatrix.chunks_count", 12),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"n_layer": 8}, ["q4_0", "iq4_xs"]),
        ({"n_layer": 3, "ple": 0, "n_expert": 4}, ["q5_0", "q3_k_m", "q2_k"]),
    ],
    ids=["e", "moe"],
)
def test_bytes_equal_llama_cpp_with_an_imatrix(
    options: dict[str, int], names: list[str], tmp_path: Path
) -> None:
    model = write_network(tmp_path / "net.gguf", **options)
    (tmp_path / "i.gguf").write_bytes(as_gguf(sums_for(model), n_expert=4))
    matrix = read_imatrix(tmp_path / "i.gguf")
    plain = {name: values.tolist() for name, values in matrix.weights.items()}
    jobs = [
        {"source": str(model), "target": str(tmp_path / f"{n}.gguf"), "type": n, "imatrix": plain}
        for n in names
    ]
    assert expect(jobs) == [0] * len(jobs)
    for name in names:
        out = tmp_path / "out.gguf"
        quantize_file(model, out, recipe=Recipe(name, has_imatrix=True), imatrix=matrix, force=True)
        ours, theirs = read_header(out), read_header(tmp_path / f"{name}.gguf")
        assert [(t.name, t.type) for t in ours.tensors.values()] == [
            (t.name, t.type) for t in theirs.tensors.values()
        ]
        assert (
            out.read_bytes()[ours.data_offset :]
            == (tmp_path / f"{name}.gguf").read_bytes()[theirs.data_offset :]
        ), name
    assert read_header(out).keys["quantize.imatrix.chunks_count"].data == 12
    assert "--imatrix" in str(read_header(out).keys["g4.recipe"].data)


@pytest.mark.slow
def test_the_first_down_projections_become_q4_1(tmp_path: Path) -> None:
    """Only with an imatrix: llama.cpp's guard for Q4_0 in the first eighth of the layers."""
    model = write_network(tmp_path / "net.gguf", n_layer=8)
    (tmp_path / "i.dat").write_bytes(dat(sums_for(model)))
    quantize_file(
        model,
        tmp_path / "out.gguf",
        recipe=Recipe("q4_0", has_imatrix=True),
        imatrix=read_imatrix(tmp_path / "i.dat"),
    )
    types = {t.name: t.type.name for t in read_header(tmp_path / "out.gguf").tensors.values()}
    assert types["blk.0.ffn_down.weight"] == "Q4_1"
    assert types["blk.1.ffn_down.weight"] == "Q4_0"


def test_a_matrix_of_another_model_is_refused(tmp_path: Path) -> None:
    small = write_network(tmp_path / "small.gguf", n_layer=2, n_embd=128)
    large = write_network(tmp_path / "large.gguf", n_layer=3, n_embd=256)
    for name, model in (("small", small), ("large", large)):
        (tmp_path / f"{name}.dat").write_bytes(dat(sums_for(model)))
    recipe = Recipe("q4_0", has_imatrix=True)
    for model, other, what in ((small, "large", "columns for"), (large, "small", "columns for")):
        with pytest.raises(BadFile, match=f"another model.*{what}"):
            quantize_file(
                model,
                tmp_path / "o.gguf",
                recipe=recipe,
                imatrix=read_imatrix(tmp_path / f"{other}.dat"),
            )
    deeper = {f"blk.9.{n}": np.ones(8, np.float32) for n in ("attn_q.weight",)}
    (tmp_path / "deep.dat").write_bytes(dat(deeper))
    with pytest.raises(BadFile, match="no such tensor"):
        quantize_file(
            small, tmp_path / "o.gguf", recipe=recipe, imatrix=read_imatrix(tmp_path / "deep.dat")
        )
    assert not (tmp_path / "o.gguf").exists()


@pytest.mark.slow
def test_a_type_that_needs_weights_which_the_matrix_lacks(tmp_path: Path) -> None:
    """ggml would end the process."""
    model = write_network(tmp_path / "net.gguf", n_layer=1)
    sums = sums_for(model)
    del sums["token_embd.weight"]
    (tmp_path / "i.dat").write_bytes(dat(sums))
    recipe = Recipe("q4_0", has_imatrix=True, overrides=(("^token_embd", "IQ2_XXS"),))
    with pytest.raises(BadFile, match=r"token_embd\.weight cannot become IQ2_XXS"):
        quantize_file(
            model, tmp_path / "o", recipe=recipe, imatrix=read_imatrix(tmp_path / "i.dat")
        )
    good = Recipe("q4_0", has_imatrix=True, overrides=((r"ffn_up", "IQ2_XXS"),))
    done = quantize_file(
        model, tmp_path / "o", recipe=good, imatrix=read_imatrix(tmp_path / "i.dat")
    )
    assert done.tensors_by_type()["IQ2_XXS"] == 1


GOOD = {"blk.0.attn_q.weight": np.ones(4, np.float32)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "claims 4 bytes, 0 are left"),
        (struct.pack("<i", 0), "0 entries"),
        (struct.pack("<i", -5), "-5 entries"),
        (dat(GOOD, n=2, tail=b""), "a name"),
        (dat(GOOD)[:30], "claims"),
        (struct.pack("<ii", 1, 2**30), "is not an importance matrix$"),
        (struct.pack("<ii", 1, -1), "claims -1 bytes"),
        (
            struct.pack("<ii", 1, 1) + b"a" + struct.pack("<ii", 1, 2**31 - 1),
            "'a' has 2147483647 values",
        ),
        (struct.pack("<ii", 1, 1) + b"a" + struct.pack("<ii", 1, 2), "the values of a"),
        (struct.pack("<ii", 1, 1) + b"a" + struct.pack("<ii", 1, 0), "has 0 values"),
        (dat({"a": np.array([1, np.nan], np.float32)}), "NaN"),
        (dat({"a": np.array([1, np.inf], np.float32)}), "NaN or infinite"),
        (b"some text that is no matrix", "is not an importance matrix$"),
    ],
)
def test_files_that_are_no_matrix(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "i.dat").write_bytes(data)
    with pytest.raises(BadFile, match=message):
        read_imatrix(tmp_path / "i.dat")


def test_gguf_files_that_are_no_matrix(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.gguf", n_layer=1)
    with pytest.raises(BadFile, match="not an importance matrix"):
        read_imatrix(path)
    path.write_bytes(as_gguf(GOOD)[:-40])
    with pytest.raises(BadGGUF, match="truncated"):
        read_imatrix(path)
    lonely = [("a.in_sum2", F32, (4, 1), None)]
    path.write_bytes(build_gguf(KEYS, lonely))
    with pytest.raises(BadFile, match=r"a\.counts is missing"):
        read_imatrix(path)
    with pytest.raises(FileMissing):
        read_imatrix(tmp_path / "nowhere")

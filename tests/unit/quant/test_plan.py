"""The plan before a file is written: groups, sizes, reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.core.errors import BadGGUF, UsageError
from g4cli.core.gguf import read_header
from g4cli.quant.file import quantize_file
from g4cli.quant.plan import plan_file
from g4cli.quant.recipes import Recipe
from tests.support.builders.weights import write_network


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(
        tmp_path_factory.mktemp("plan") / "net.gguf", n_layer=3, n_embd=160, n_ff=72, ple=32
    )


@pytest.mark.parametrize(
    "recipe", [Recipe("q4_0"), Recipe("sfp8"), Recipe("q4_k_m", pure=True)], ids=str
)
def test_a_plan_is_what_gets_written(source: Path, tmp_path: Path, recipe: Recipe) -> None:
    planned = plan_file(source, recipe)
    done = quantize_file(source, tmp_path / "out.gguf", recipe=recipe)
    written = read_header(done.path).tensors.values()
    assert planned.nbytes == sum(t.nbytes for t in written)
    assert planned.source_bytes == sum(t.nbytes for t in read_header(source).tensors.values())
    assert sum(g.bytes_after for g in planned.group_by_kind()) == planned.nbytes
    assert sum(t["bytes"] for t in planned.as_json()["tensors"]) == planned.nbytes
    assert sum(g.count for g in planned.group_by_kind()) == len(planned.choices)


def test_reasons(source: Path) -> None:
    reasons = {c.name: c.reason for c in plan_file(source, Recipe("q4_k_m")).choices}
    assert reasons["output_norm.weight"] == "kept: a vector"
    assert reasons["per_layer_model_proj.weight"] == "kept: small and sensitive to rounding"
    assert (
        reasons["blk.0.attn_q.weight"]
        == "fallback: rows of 160 do not divide into Q4_K blocks of 256"
    )
    assert (
        reasons["blk.0.ffn_down.weight"]
        == "fallback: rows of 72 do not divide into Q4_K blocks of 256"
    )
    overrides = Recipe("q8_0", overrides=(("attn_q", "F16"),))
    assert {c.name: c.reason for c in plan_file(source, overrides).choices}[
        "blk.0.attn_q.weight"
    ] == "as requested"


def test_groups_put_layers_together_and_the_largest_first(source: Path) -> None:
    groups = plan_file(source, Recipe("q8_0")).group_by_kind()
    assert [g.bytes_after for g in groups] == sorted((g.bytes_after for g in groups), reverse=True)
    vectors = next(g for g in groups if g.kind == "norms, other vectors")
    assert (vectors.source, vectors.type) == ("F32", "F32")
    assert {g.kind: g.count for g in groups}["attn_q"] == 3


def test_sfp8_is_named_as_such(source: Path) -> None:
    planned = plan_file(source, Recipe("sfp8", container="bf16"))
    assert {g.kind: g.type for g in planned.group_by_kind()}["ffn_up"] == "SFP8"
    assert planned.nbytes == planned.source_bytes
    data = plan_file(source, Recipe("sfp8")).as_json()
    row = next(t for t in data["tensors"] if t["name"] == "blk.0.ffn_up.weight")
    assert (row["to"], row["sfp8"]) == ("I8", True)
    assert data["bits_per_weight"] < 9.5


def test_the_weights_of_an_archive_are_its_codes_and_their_scales(
    source: Path, tmp_path: Path
) -> None:
    archive = quantize_file(source, tmp_path / "a.gguf", recipe=Recipe("sfp8")).path
    planned, stored = plan_file(archive, Recipe("bf16")), read_header(archive).tensors.values()
    groups = planned.group_by_kind()
    assert planned.source_bytes == sum(t.nbytes for t in stored)
    assert sum(g.bytes_before for g in groups) == planned.source_bytes
    assert {g.kind: (g.source, g.type) for g in groups}["ffn_up"] == ("SFP8", "BF16")
    types = {t["name"]: t["from"] for t in planned.as_json()["tensors"]}
    assert types.items() <= {(t.name, t.type.name) for t in stored}


def test_a_plan_refuses_what_writing_would(source: Path, tmp_path: Path) -> None:
    small = quantize_file(source, tmp_path / "q.gguf", recipe=Recipe("q8_0")).path
    with pytest.raises(UsageError, match="already quantized"):
        plan_file(small, Recipe("q4_0"))
    assert plan_file(small, Recipe("q4_0"), allow_requantize=True).nbytes < small.stat().st_size
    small.write_bytes(small.read_bytes()[:-100])
    with pytest.raises(BadGGUF, match="truncated"):
        plan_file(small, Recipe("q4_0"))


def test_the_same_type_again_changes_nothing(source: Path, tmp_path: Path) -> None:
    first = quantize_file(source, tmp_path / "a.gguf", recipe=Recipe("q8_0")).path
    second = quantize_file(first, tmp_path / "b.gguf", recipe=Recipe("q8_0")).path
    data = [p.read_bytes()[read_header(p).data_offset :] for p in (first, second)]
    assert data[0] == data[1]

"""The list of tensors, in the layouts that llama.cpp loads, and the parts of split files."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from g4cli.core.inventory import text_tensors
from g4cli.core.registry import find_model
from g4cli.doctor.checks.tensors import check_inventory
from g4cli.doctor.diagnose import judge_facts
from g4cli.doctor.facts.file_facts import FileFacts
from tests.support.builders.gguf import write_gguf
from tests.support.builders.other_kinds import MATRIX, foreign_keys
from tests.unit.doctor.test_hostile_headers import gather

Shapes = dict[str, tuple[int, ...]]

FUSED, GATE, UP = (f"blk.0.ffn_{part}_exps.weight" for part in ("gate_up", "gate", "up"))
Q, K, V, QKV = (f"blk.0.attn_{part}.weight" for part in ("q", "k", "v", "qkv"))


def shapes_of(model: str) -> Shapes:
    return {t.name: t.shape for t in text_tensors(find_model(model).shape)}


def judge(model: str, shapes: Shapes, **keys: int) -> Any:
    header = SimpleNamespace(
        tensors={name: SimpleNamespace(shape=dims) for name, dims in shapes.items()},
        keys={f"split.{name}": SimpleNamespace(data=value) for name, value in keys.items()},
    )
    shape = find_model(model).shape
    return check_inventory(FileFacts("m.gguf", 1, header=cast(Any, header), shape=shape))


def other_layout() -> Shapes:
    """Return the tensors of 26B with divided experts and fused attention in the first layer."""
    shapes = shapes_of("26b")
    n_embd, width, n_expert = shapes.pop(FUSED)
    shapes |= dict.fromkeys((GATE, UP), (n_embd, width // 2, n_expert))
    shapes[QKV] = (n_embd, sum(shapes.pop(name)[1] for name in (Q, K, V)))
    return shapes


def test_experts_may_be_divided_and_attention_fused() -> None:
    assert judge("26b", other_layout()).status == "ok"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({UP: None}, f"1 missing ({UP})"),
        ({GATE: (1, 2, 3)}, f"1 of the wrong shape ({GATE} is [1, 2, 3]"),
        ({QKV: (1,)}, f"1 of the wrong shape ({QKV} is [1]"),
        ({K: (2816, 2048)}, f"1 that do not belong ({K})"),
        ({FUSED: (2816, 1408, 128)}, f"2 that do not belong ({GATE}, {UP})"),
    ],
)
def test_another_layout_is_judged_whole(
    change: dict[str, tuple[int, ...] | None], found: str
) -> None:
    changed = {**other_layout(), **change}
    outcome = judge("26b", {name: dims for name, dims in changed.items() if dims is not None})
    assert outcome.status == "fail"
    assert found in outcome.found


def test_a_network_without_experts_has_no_tensors_of_experts() -> None:
    strays = {GATE: (1,), "blk.99.attn_qkv.weight": (1,)}
    assert "2 that do not belong" in judge("31b", {**shapes_of("31b"), **strays}).found


def test_a_part_without_tensors_is_no_vocabulary() -> None:
    assert judge("31b", {}, count=3, no=0).found.startswith("one part of a split file")


def test_a_part_has_the_number_of_its_name(tmp_path: Path) -> None:
    keys = foreign_keys("llama", ("split.no", "u16", 1), ("split.count", "u16", 2))
    for number in (1, 2):
        write_gguf(tmp_path / f"m-0000{number}-of-00002.gguf", keys, [MATRIX])
    report = judge_facts(gather(tmp_path, keys, MATRIX, name="m-00001-of-00002.gguf"), ("tensors",))
    (finding,) = (f for f in report.findings if f.status == "fail")
    assert finding.found.startswith("part 2 of 2, but its name does not say so")


def test_a_folder_keeps_its_name_in_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "OUT of FILE"
    folder.mkdir()
    keys = foreign_keys("llama", ("split.count", "u16", 3))
    facts = gather(folder, keys, MATRIX, name="part.gguf")
    fix = judge_facts(facts, ("tensors.parts",)).findings[0].fix
    new = folder / "NAME-00001-of-00003.gguf"
    assert shlex.split(fix) == ["mv", str(folder / "part.gguf"), str(new)]

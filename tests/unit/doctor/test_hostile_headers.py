"""Headers with values of a wrong kind or size: no check crashes, hangs or takes them for right."""

from __future__ import annotations

import shlex
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from g4cli.core.gguf import read_header
from g4cli.doctor.checks.keys import check_values
from g4cli.doctor.checks.mmproj import check_pair
from g4cli.doctor.checks.template import check_safe
from g4cli.doctor.checks.tokenizer import check_counts, check_ids
from g4cli.doctor.checks.weights import check_zero
from g4cli.doctor.diagnose import judge_facts
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.facts.tensor_scan import PAGE
from g4cli.doctor.facts.tensor_stats import TensorStats
from g4cli.doctor.facts.vocabulary import Vocabulary
from g4cli.doctor.probe.any_model import token_text
from tests.support.builders.gguf import F32, Key, Tensor, gemma4_keys, write_gguf
from tests.support.builders.other_kinds import MATRIX, PROJECTION, foreign_keys, mmproj_keys

FAR_LAYER: Tensor = ("blk.99999999999.attn_norm.weight", F32, [32], None)


def gather(folder: Path, keys: list[Key], *tensors: Tensor, name: str = "m.gguf") -> FileFacts:
    return gather_facts(write_gguf(folder / name, keys, tensors), "quick")


@pytest.mark.parametrize(
    ("keys", "tensors"),
    [
        (gemma4_keys(replace={"general.architecture": ("u32", 7)}), [MATRIX]),
        (gemma4_keys(replace={"split.count": ("str", "two")}), [MATRIX]),
        (foreign_keys("llama", ("split.count", "str", "two")), [MATRIX]),
        (foreign_keys("llama", ("llama.context_length", "f32", inf)), [MATRIX]),
        (foreign_keys("llama", ("llama.context_length", "f32", nan)), [MATRIX]),
        (foreign_keys("llama", ("tokenizer.ggml.bos_token_id", "f32", inf)), [MATRIX]),
        ([*foreign_keys("gpt2")[:1], ("gpt2.block_count", "u64", 10**12)], [MATRIX, FAR_LAYER]),
        ([*mmproj_keys("gemma4v"), ("clip.has_audio_encoder", "u32", 1)], [PROJECTION]),
    ],
)
def test_no_check_crashes(tmp_path: Path, keys: list[Key], tensors: list[Tensor]) -> None:
    report = judge_facts(gather(tmp_path, keys, *tensors))
    assert [f.found for f in report.findings if f.status == "crash"] == []


@pytest.mark.parametrize("architecture", [None, ("u32", 7)])
def test_a_file_without_an_architecture_has_no_mmproj_to_fit(
    tmp_path: Path, architecture: Any
) -> None:
    facts = gather(tmp_path, gemma4_keys(replace={"general.architecture": architecture}), MATRIX)
    path = write_gguf(tmp_path / "mmproj.gguf", mmproj_keys("gemma4v"), [PROJECTION])
    assert check_pair(replace(facts, neighbors=(read_header(path),))).status == "skipped"


def test_a_part_is_one_of_as_many_as_its_name_says(tmp_path: Path) -> None:
    keys = foreign_keys("llama", ("split.count", "u64", 1 << 60))
    report = judge_facts(
        gather(tmp_path, keys, MATRIX, name="m-00001-of-00002.gguf"), ("tensors.parts",)
    )
    assert report.findings[0].status == "fail"
    assert "its name does not say so" in report.findings[0].found


def test_the_command_that_renames_a_part_can_be_typed(tmp_path: Path) -> None:
    keys = foreign_keys("llama", ("split.count", "u16", 3))
    folder = tmp_path / "my models"
    folder.mkdir()
    facts = gather(folder, keys, MATRIX, name="a b.gguf")
    fix = judge_facts(facts, ("tensors.parts",)).findings[0].fix
    new = folder / "NAME-00001-of-00003.gguf"
    assert shlex.split(fix) == ["mv", str(folder / "a b.gguf"), str(new)]


def test_parts_on_the_hub_are_not_looked_for_on_this_disk(tmp_path: Path) -> None:
    keys = foreign_keys("llama", ("split.count", "u16", 2))
    facts = replace(gather(tmp_path, keys, MATRIX), path="hf:o/r/m-00001-of-00002.gguf")
    report = judge_facts(facts, ("tensors.parts",))
    assert (report.findings[0].status, report.exit_code) == ("skipped", 0)


def test_a_vocabulary_without_merges_has_none(tmp_path: Path) -> None:
    vocabulary = Vocabulary("llama", "gemma4", 3, 3, 3, -1, (), (), ())
    facts = replace(gather(tmp_path, gemma4_keys()), vocabulary=vocabulary)
    assert check_counts(facts).found == "3 tokens, 0 merges"


@pytest.mark.parametrize("sign", ["", "-", "+"])
def test_a_template_includes_no_file(tmp_path: Path, sign: str) -> None:
    text = f"{{%{sign} include 'x' %}}"
    facts = gather(tmp_path, gemma4_keys(replace={"tokenizer.chat_template": ("str", text)}))
    assert check_safe(facts).status == "fail"


def test_layers_are_not_counted_one_by_one(tmp_path: Path) -> None:
    keys: list[Key] = [*foreign_keys("gpt2")[:1], ("gpt2.block_count", "u64", 10**12)]
    report = judge_facts(gather(tmp_path, keys, MATRIX, FAR_LAYER), ("tensors.inventory",))
    assert "99,999,999,999 layers without tensors, first blk.0" in report.findings[0].found


def test_nan_is_not_the_expected_value(tmp_path: Path) -> None:
    changed = {
        "gemma4.final_logit_softcapping": ("f32", nan),
        "gemma4.rope.freq_base": ("f32", 1e6),
    }
    outcome = check_values(gather(tmp_path, gemma4_keys(replace=changed)))
    assert outcome.status == "fail"
    assert outcome.found.startswith("gemma4.final_logit_softcapping is nan, expected 30")


@pytest.mark.parametrize("number", [inf, nan, 5.0])
def test_a_token_id_is_an_integer(tmp_path: Path, number: float) -> None:
    keys = foreign_keys("llama", ("tokenizer.ggml.bos_token_id", "f32", number))
    header = gather(tmp_path, keys, MATRIX).header
    assert header is not None
    assert token_text(header, "bos_token_id") == ""


def test_the_end_of_a_turn_is_named_where_it_is_the_eos(tmp_path: Path) -> None:
    changed = {"tokenizer.ggml.eos_token_id": ("u32", 106)}
    facts = gather(tmp_path, gemma4_keys(replace=changed))
    assert check_ids(facts).found == "BOS 2, EOS 106, no space before the text"


def test_a_table_of_which_half_is_zero_pages_is_damaged() -> None:
    def judge(name: str, zero_pages: int) -> str:
        stats = TensorStats(
            name, "F32", 100 * PAGE, 100 * PAGE, zero_pages * PAGE, zero_pages, first_zero_page=0
        )
        return check_zero(FileFacts("m.gguf", 1, stats=(stats,))).status

    assert (judge("token_embd.weight", 20), judge("token_embd.weight", 50)) == ("ok", "fail")
    assert judge("output.weight", 50) == "ok"  # a fault by itself: tensors.tied
    assert judge("blk.0.attn_q.weight", 1) == "fail"


def test_a_tensor_may_have_the_name_of_a_layer_alone() -> None:
    stats = TensorStats("blk.0", "F32", 4, 4, 4), TensorStats("blk.1", "F32", 4, 4)
    outcome = check_zero(FileFacts("m.gguf", 1, stats=stats))
    assert "1 of 2 tensors contains only zeros: blk.0;" in outcome.found


def test_heads_of_every_layer_and_the_wrong_number_are_looked_at(tmp_path: Path) -> None:
    keys = foreign_keys(
        "llama",
        ("llama.attention.head_count", "u32", 8),
        ("llama.attention.head_count_kv", "[u32]", [8, 3]),
        ("llama.embedding_length", "[u32]", [2048, 0]),
    )
    report = judge_facts(gather(tmp_path, keys, MATRIX), ("keys.shape",))
    assert report.findings[0].found == (
        "llama.embedding_length is 0; 8 heads cannot share 3 KV heads"
    )

"""What tells a model of another architecture with damaged weights from one that is small."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from g4cli.core.gguf import read_header
from g4cli.doctor.checks.any_model.probe import check_logits_range, check_prediction, is_suspicious
from g4cli.doctor.checks.any_model.tokenizer import check_counts, check_encoding, check_ids
from g4cli.doctor.checks.weights import check_norms
from g4cli.doctor.diagnose import judge_facts
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.facts.vocabulary import Vocabulary, read_vocabulary
from g4cli.doctor.probe.child import ChildAnswer, GreedyRun, ProbeResult
from g4cli.doctor.probe.compare import ConfigComparison
from g4cli.doctor.probe.tokenizer import TokenizerAnswers
from tests.support.builders.gguf import write_gguf
from tests.support.builders.other_kinds import MATRIX, foreign_keys

# Of SmolLM2-135M as published, in bits: the entropy of its answers, and what it needs for a token
# of plain English.
ENTROPY, SURPRISE, SPREAD = 2.69, 2.6, 62.0
IQ3_S = 21  # enum ggml_type
VOCABULARY = Vocabulary("gpt2", "", 1, -1, 1, 1, ("the",), (1,), ((1, 1),))


def facts_of(
    *, surprise: float | None = SURPRISE, spread: float = SPREAD, **more: Any
) -> FileFacts:
    run = GreedyRun("p", (5, 6), "a b", (0.5, 0.5), 0.0, spread, 0, 0.0, (ENTROPY, ENTROPY))
    probe = ProbeResult((run,), n_vocab=49_152, surprise=surprise)
    return FileFacts("m.gguf", 1, kind="other-model", probe=probe, expected=("a",), **more)


def test_a_sound_model_predicts_plain_english() -> None:
    outcome = check_prediction(facts_of())
    assert outcome.status == "ok"
    assert "plain English is predicted with 2.6 bits" in outcome.found
    assert check_prediction(facts_of(surprise=None)).status == "ok"
    assert not is_suspicious(facts_of())


# Measured with damaged copies of it: all norms larger by 1, data shifted by 32 bytes, norms of 1.
@pytest.mark.parametrize("surprise", [27.2, 31.8, 17.4])
def test_who_predicts_text_worse_than_by_chance_is_broken(surprise: float) -> None:
    outcome = check_prediction(facts_of(surprise=surprise))
    assert (outcome.status, outcome.cause) == ("fail", "conversion-defect")
    assert "worse than a random guess (15.6)" in outcome.found
    assert is_suspicious(facts_of(surprise=surprise))


def test_logits_that_leave_no_choice_are_a_defect() -> None:
    assert check_logits_range(facts_of()).status == "ok"
    outcome = check_logits_range(facts_of(spread=54_009.3))
    assert (outcome.status, outcome.cause) == ("fail", "conversion-defect")
    assert "the logits differ by 54,009" in outcome.found


def test_no_command_of_g4_that_takes_gemma_4_alone_is_advised(tmp_path: Path) -> None:
    broken = (ConfigComparison("the GPU", "gpu", broken=True),)
    no_f16 = (ConfigComparison("a Q8_0 KV cache", "kv", base_broken=True),)
    slow = ProbeResult(child=ChildAnswer(exit_code=-9, timed_out=True))
    tensors = [("blk.0.attn_q.weight", IQ3_S, [256, 1], bytes(110))]
    header = read_header(write_gguf(tmp_path / "m.gguf", foreign_keys("llama"), tensors))
    for facts in (
        facts_of(comparisons=broken),
        facts_of(comparisons=no_f16),
        replace(facts_of(), probe=slow),
        facts_of(header=header),
    ):
        report = judge_facts(facts, ("probe.configs", "probe.load", "tensors.engine-bug"))
        fixes = [f.fix for f in report.findings if f.status != "ok" and "--deep" not in f.fix]
        assert any(fixes)
        assert not [fix for fix in fixes if re.search("g4 (chat|fit|pull)", fix)]


def test_wordpiece_gives_no_text_back() -> None:
    """Measured with llama.cpp's ggml-vocab-bert-bge.gguf."""
    answers = TokenizerAnswers(
        round_trips=(("Hello, world!", " hello , world !"),), ends=((102, "[SEP]"),)
    )
    facts = facts_of(vocabulary=VOCABULARY, tokenizer=answers)
    assert check_encoding(facts).status == "fail"
    wordpiece = replace(VOCABULARY, model="bert")
    assert check_encoding(replace(facts, vocabulary=wordpiece)).status == "ok"


@pytest.mark.parametrize(
    ("text", "status"),
    [("the", "fail"), ("<|endoftext|>", "ok"), ("\u2581<EOT>", "ok"), ("[EOS]", "ok")],
)
def test_an_ordinary_word_ends_no_answer(text: str, status: str, tmp_path: Path) -> None:
    """ggml-vocab-aquila.gguf stores <|endoftext|> as an ordinary token."""
    keys = foreign_keys("llama", ("tokenizer.ggml.token_type", "[i32]", [1] * 401))
    header = read_header(write_gguf(tmp_path / "m.gguf", keys, [MATRIX]))
    vocabulary = read_vocabulary(header)
    for number in (0, 400):
        answers = TokenizerAnswers(ends=((number, text),))
        facts = facts_of(header=header, vocabulary=vocabulary, tokenizer=answers)
        assert check_ids(facts).status == status


def test_an_absent_array_has_no_length_to_compare_with() -> None:
    absent = replace(VOCABULARY, n_tokens=-1, n_scores=5)
    assert check_counts(facts_of(vocabulary=absent)).found == "the tokens are missing"


def test_lost_merges_are_found_without_token_types() -> None:
    """Then all tokens are ordinary ones to llama.cpp (llama-vocab.cpp, `load`)."""
    lost = replace(VOCABULARY, n_tokens=1256, n_types=-1, n_merges=700, types=(), type_counts=())
    assert "700 merges for 1,000 tokens" in check_counts(facts_of(vocabulary=lost)).found
    assert check_counts(facts_of(vocabulary=replace(lost, n_merges=800))).status == "ok"


def test_lost_norms_are_found_in_every_architecture() -> None:
    ones, others = np.ones(8, "f4"), np.linspace(0.5, 2, 8, dtype="f4")
    lost = {"a_norm.weight": ones, "b_norm.weight": ones, "c_norm.weight": others}
    assert check_norms(facts_of(vectors=lost)).status == "fail"
    kept = {"a_norm.weight": ones, "b_norm.weight": others, "c_norm.weight": others}
    assert check_norms(facts_of(vectors=kept)).status == "ok"

"""`g4 doctor` on models of other architectures: judged by themselves, run by llama.cpp."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from g4cli.doctor.diagnose import diagnose_file, judge_facts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.probe.child import greedy_probe
from g4cli.doctor.report import Report
from g4cli.runtime.probes.doctor_child import Session
from tests.support.builders.gguf import write_gguf
from tests.support.builders.small_llama import CHATML, TOKENS, llama_keys, llama_tensors


def diagnose_llama(
    folder: Path, *, only: tuple[str, ...] = (), without: tuple[str, ...] = (), **changes: Any
) -> Report:
    """Return the report on a small Llama with some keys changed and some tensors missing."""
    path = write_gguf(folder / "m.gguf", llama_keys(**changes), llama_tensors(without=without))
    return diagnose_file(path, only=only)


def finding(report: Report, id_: str) -> Any:
    return next(f for f in report.findings if f.id == id_)


@pytest.mark.slow
def test_a_sound_model_is_healthy_and_named(tmp_path: Path) -> None:
    report = diagnose_llama(tmp_path)
    assert (report.verdict, report.exit_code, report.kind) == ("healthy", 0, "other-model")
    assert "the file is sound, but its weights are random" in report.summary
    assert "Llama (llama, F32), not Gemma 4" in report.summary
    examined = {f.id for f in report.findings if f.status in ("ok", "warn")}
    assert {
        "keys.shape", "tensors.inventory", "tokenizer.control", "tokenizer.encoding",
        "template.rendering", "weights.finite", "probe.load", "probe.logits",
    } <= examined  # fmt: skip
    skipped = {f.id for f in report.findings if f.status == "skipped"}
    assert {"keys.values", "tokenizer.vocabulary", "weights.rope", "probe.tokens"} <= skipped
    assert "g4 pull" not in "".join(f.fix for f in report.findings)


@pytest.mark.slow
def test_every_step_that_may_take_long_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama_keys(), llama_tensors())
    steps: list[str] = []
    diagnose_file(path, progress=lambda _done, _total, label: steps.append(label))
    named = list(dict.fromkeys(steps))
    assert named[:4] == ["sha256 of the file", "tensors", "equal tensors", named[3]]
    assert named[3] == "chat template and tokenizer"
    assert any("questions" in step for step in named[4:])


@pytest.mark.slow
def test_a_model_that_this_llama_cpp_does_not_know_is_not_called_healthy(tmp_path: Path) -> None:
    report = diagnose_llama(tmp_path, architecture="zzzzz")
    assert (report.verdict, report.exit_code) == ("not-checked", 0)
    assert "not checked: tokenizer, answers" in report.summary
    assert "does not know the architecture" in report.summary
    assert finding(report, "keys.architecture").code == "unknown-architecture"
    assert report.fix == "update llama.cpp (g4 doctor shows its version)"
    assert not [f.id for f in report.findings if f.status == "skipped" and f.fix]


BAD: tuple[tuple[str, dict[str, Any], str, str, str], ...] = (
    # what is changed, verdict, check that fails, words of it
    ("layers", {"block_count": 7}, "conversion-defect", "tensors.inventory", "the file has 4"),
    ("width", {"embedding_length": 64}, "conversion-defect", "tensors.inventory", "32 wide"),
    ("heads", {"head_count_kv": 3}, "conversion-defect", "keys.shape", "cannot share 3"),
    ("tensor", {"without": ("blk.1.ffn_up.weight",)}, "conversion-defect", "tensors.inventory",
     "blk.1.ffn_up.weight is missing"),
    ("layer", {"without": tuple(name for name, *_ in llama_tensors() if "blk.2." in name)},
     "conversion-defect", "tensors.inventory", "1 layer without tensors"),
    ("tokens", {"tokens": [*TOKENS, "x"], "token_type": [1] * (len(TOKENS) + 1)},
     "conversion-defect", "tensors.inventory", "262 tokens for 261 rows"),
    ("types", {"token_type": [1, 1]}, "tokenizer", "tokenizer.counts", "2 types"),
    ("merges", {"merges": None}, "tokenizer", "tokenizer.counts", "no merges"),
    ("few-merges", {"merges": ["h e"], "tokens": [*TOKENS[:258], "ing", "er", "in", *TOKENS[258:]],
     "token_type": [1] * 261 + [3] * 3}, "tokenizer", "tokenizer.counts",
     "1 merges for 5 tokens of several letters"),
    ("no-turns", {"chat_template": "{{ messages[0].content }}"}, "template", "template.rendering",
     "it writes the question alone, but the vocabulary ends turns with '<|im_end|>'"),
    ("eos", {"eos_token_id": 9999}, "tokenizer", "tokenizer.ids", "eos_token_id is 9,999"),
    ("no-eos", {"eos_token_id": None, "bos_token_id": None}, "tokenizer", "tokenizer.ids",
     "an ordinary token, ends answers"),
    ("pre", {"pre": "not-a-splitter"}, "runtime", "tokenizer.model", "'not-a-splitter'"),
    ("template", {"chat_template": "{{ broken"}, "template", "template.rendering", "template"),
    ("question", {"chat_template": "always the same"}, "template", "template.rendering",
     "does not contain the question"),
    ("markers", {"chat_template": CHATML.replace("im_", "turn_")}, "template",
     "tokenizer.control", "'<|turn_start|>'"),
    ("attack", {"chat_template": CHATML + "{{ x.__class__ }}"}, "template", "template.safe",
     "__class__"),
)  # fmt: skip


@pytest.mark.slow_except("few-merges", "width", "layers", "tokens", "tensor", "layer", "template")
@pytest.mark.parametrize(("changes", "verdict", "id_", "words"), [r[1:] for r in BAD],
                         ids=[r[0] for r in BAD])  # fmt: skip
def test_what_is_wrong_by_the_file_itself_is_found(
    changes: dict[str, Any], verdict: str, id_: str, words: str, tmp_path: Path
) -> None:
    report = diagnose_llama(tmp_path, only=(id_.split(".")[0],), **changes)
    failed = finding(report, id_)
    assert failed.status == "fail"
    assert words in failed.found
    assert (report.verdict, report.exit_code) == (verdict, 8)
    assert "g4 pull" not in report.fix


def test_numbers_that_are_none_are_found(tmp_path: Path) -> None:
    tensors = llama_tensors()
    name, kind, ne, data = tensors[5]
    values = np.frombuffer(data or b"", "<f4").copy()
    values[7] = np.nan
    tensors[5] = (name, kind, ne, values.tobytes())
    path = write_gguf(tmp_path / "m.gguf", llama_keys(), tensors)
    report = diagnose_file(path, only=("weights",))
    assert report.verdict == "file-damaged"
    assert finding(report, "weights.finite").status == "fail"


@pytest.mark.slow
def test_an_embedding_model_is_not_asked_questions(tmp_path: Path) -> None:
    keys = [*llama_keys(), ("llama.attention.causal", "bool", False)]
    report = diagnose_file(write_gguf(tmp_path / "m.gguf", keys, llama_tensors()))
    assert report.verdict == "not-checked"
    assert "it makes embeddings and no answers" in report.summary
    assert report.fix == f"llama-embedding -m {tmp_path / 'm.gguf'}"


def test_an_encoder_with_a_decoder_is_not_called_an_embedding_model(tmp_path: Path) -> None:
    report = judge_facts(
        gather_facts(
            write_gguf(tmp_path / "m.gguf", llama_keys(architecture="t5"), llama_tensors())
        )
    )
    assert "it has an encoder and a decoder" in report.summary


def test_the_probability_of_a_text_is_that_of_its_tokens_one_by_one(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama_keys(), llama_tensors())
    text = "the sun rises in the east"
    found = greedy_probe(path, [("p", "the")], n_tokens=2, text=text)
    session = Session(str(path), {})
    tokens, bits = session.tokenize(text), []
    for token, following in pairwise(tokens):
        logits = session.logits_after([token]).astype(np.float64)
        bits.append(np.log2(np.exp(logits).sum()) - logits[following] / np.log(2))
    assert found.surprise == pytest.approx(np.mean(bits), abs=1e-3)
    assert len(found.runs) == 1
    assert greedy_probe(path, [("p", "the")], n_tokens=2).surprise is None

"""llama.cpp's 46 golden rows: the doctor's copy of them, and their tokens in the vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.doctor.diagnose import diagnose_file
from g4cli.doctor.probe.tokenizer import known_texts
from tests.support.builders.damage import GGUF, T, value
from tests.support.paths import SHARED_DATA

SHARED = SHARED_DATA / "gemma4-vocab"
VOCABULARY = SHARED / "ggml-vocab-gemma-4.gguf"


@pytest.mark.requires_vocab
def test_the_table_is_llama_cpps_own() -> None:
    texts = (SHARED / f"{VOCABULARY.name}.inp").read_text().split("\n__ggml_vocab_test__\n")
    ids = (SHARED / f"{VOCABULARY.name}.out").read_text().splitlines()
    theirs = ((text, tuple(map(int, row.split()))) for text, row in zip(texts, ids, strict=True))
    assert tuple(theirs) == known_texts(262_144)[-46:]


def test_all_rows_belong_to_the_published_vocabulary_alone() -> None:
    assert len(known_texts(262_144)) == 53
    assert len(known_texts(768)) == 3
    assert ("Hello world", (9259, 1902)) in known_texts(262_144)


@pytest.mark.slow
@pytest.mark.requires_vocab
@pytest.mark.parametrize(
    ("key", "change", "verdict", "said"),
    [
        ("", None, "not-checked", "53 known texts have the expected tokens"),
        ("model", value("str", "llama"), "tokenizer", "of 58 known texts become other tokens"),
    ],
)
def test_the_real_vocabulary(
    key: str, change: bytes | None, verdict: str, said: str, tmp_path: Path
) -> None:
    path = VOCABULARY
    if change is not None:
        file = GGUF(VOCABULARY.read_bytes())
        file.keys[T + key] = change
        path = tmp_path / "vocabulary.gguf"
        path.write_bytes(file.encode())
    report = diagnose_file(path, only=("tokenizer.encoding",))
    assert report.verdict == verdict
    assert said in report.findings[0].found

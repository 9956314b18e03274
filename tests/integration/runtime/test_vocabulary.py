"""No byte of a token is lost, whatever the vocabulary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from g4cli.chat import Answer, TurnOptions
from g4cli.core.gguf import read_header
from g4cli.core.gguf_values import Array
from g4cli.prompt.reply import AnswerText
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ModelOptions


@pytest.fixture(scope="module")
def vocabulary(vocab_file: Path) -> Model:
    return Model(vocab_file, ModelOptions(vocab_only=True))


@pytest.mark.slow
@pytest.mark.requires_vocab
def test_every_token_of_the_real_vocabulary_has_its_bytes(
    vocab_file: Path, vocabulary: Model
) -> None:
    """Oracle: the file's own token texts, read by g4's reader; '▁' is a space, <0xNN> a byte."""
    header = read_header(vocab_file)
    texts, types = (
        header.get(f"tokenizer.ggml.{name}", Array).tolist() for name in ("tokens", "token_type")
    )
    assert len(texts) == vocabulary.n_vocab == 262_144
    wrong = []
    for token, (text, kind) in enumerate(zip(texts, types, strict=True)):
        if kind == 6:
            expected = bytes([int(text[3:5], 16)])
        elif kind in (3, 4):
            expected = text.encode()
        else:
            expected = text.replace("▁", " ").encode()
        if vocabulary.piece(token) != expected:
            wrong.append((token, text, kind, vocabulary.piece(token)))
    assert wrong == []
    assert max(len(text.encode()) for text in texts) > 32, (
        "the buffer that lost 379 tokens had 32 bytes"
    )


@pytest.mark.requires_vocab
def test_text_comes_back_through_tokens_and_decoder(vocabulary: Model) -> None:
    rng = np.random.default_rng(5)
    tokens = [int(t) for t in rng.integers(300, 255_000, 3000)]
    answer = Answer(vocabulary, TurnOptions(raw=True, on_loop="ignore"))
    events = [event for token in tokens for event in answer.add_token(token)] + answer.end()
    text = "".join(event.text for event in events if isinstance(event, AnswerText))
    assert text.encode() == b"".join(vocabulary.piece(token) for token in tokens)


@pytest.mark.parametrize(
    "text", ["Hello, world", "  two spaces", "line\n\n\nbreaks\t", "நன்றி ไทย 日本 🎈", "x" * 3000]
)
@pytest.mark.requires_vocab
def test_round_trip(vocabulary: Model, text: str) -> None:
    tokens = vocabulary.tokenize(text, control=False)
    assert b"".join(vocabulary.piece(token) for token in tokens).decode() == text

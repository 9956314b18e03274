"""A header's keys become the numbers of the network; what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from g4cli.core.errors import BadGGUF
from g4cli.core.gguf import read_header
from g4cli.core.paths import tiny_dir
from g4cli.core.registry import find_model
from g4cli.core.shape import MAX_TRAINED_CONTEXT, Shape, capped_context, require_tokenizer, shape_of
from g4cli.store.make import pull_bundled
from tests.support.builders.gguf import BF16, gemma4_keys, write_gguf


def read_shape(
    tmp_path: Path, replace: dict[str, Any] | None = None, tensors: list[Any] | None = None
) -> Shape:
    return shape_of(
        read_header(write_gguf(tmp_path / "x.gguf", gemma4_keys(replace=replace), tensors or []))
    )


def test_a_small_network(tmp_path: Path) -> None:
    assert read_shape(tmp_path) == Shape(
        n_layer=5,
        n_embd=64,
        n_vocab=16,
        n_ctx_train=1024,
        n_head=(4,) * 5,
        n_head_kv=(1,) * 5,
        n_ff=(128,) * 5,
        is_swa=(True, True, True, True, False),
        head_dim=32,
        head_dim_swa=16,
        n_swa=512,
    )


def test_arrays_per_layer(tmp_path: Path) -> None:
    got = read_shape(
        tmp_path,
        {
            "gemma4.attention.head_count_kv": ("[i32]", [8, 8, 8, 8, 2]),
            "gemma4.feed_forward_length": ("[u32]", [64, 64, 64, 128, 128]),
            "gemma4.attention.shared_kv_layers": ("u32", 2),
            "gemma4.expert_count": ("u32", 128),
            "gemma4.expert_used_count": ("u32", 8),
            "gemma4.expert_feed_forward_length": ("u32", 704),
        },
    )
    assert got.n_head_kv == (8, 8, 8, 8, 2)
    assert got.n_ff == (64, 64, 64, 128, 128)
    assert got.n_layer_kv == 3
    assert (got.kv_width(0), got.kv_width(4)) == (8 * 16, 2 * 32)
    assert (got.n_expert, got.n_expert_used, got.n_ff_expert) == (128, 8, 704)


def test_the_embedding_table_decides_the_vocabulary(tmp_path: Path) -> None:
    assert read_shape(tmp_path, tensors=[("token_embd.weight", BF16, (64, 20), None)]).n_vocab == 20


def test_k_equals_v_is_seen_from_missing_tensors(tmp_path: Path) -> None:
    names = ["blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.4.attn_k.weight"]
    tensors = [(name, BF16, (64, 16), None) for name in names]
    assert read_shape(tmp_path, tensors=tensors).k_eq_v
    assert not read_shape(
        tmp_path, tensors=[*tensors, ("blk.4.attn_v.weight", BF16, (64, 16), None)]
    ).k_eq_v


def test_the_bundled_model_has_the_shape_of_the_registry() -> None:
    assert tiny_dir().is_dir()
    header = read_header(pull_bundled("tiny", "bf16").entry.path)
    assert shape_of(header) == find_model("tiny").shape


@pytest.mark.requires_vocab
def test_the_real_vocabulary_file_has_the_26bs_shape(vocab_file: Path) -> None:
    got = shape_of(read_header(vocab_file))
    expected = find_model("26b").shape
    assert (got.n_head_kv, got.is_swa, got.n_vocab) == (
        expected.n_head_kv,
        expected.is_swa,
        expected.n_vocab,
    )
    assert (got.n_embd, got.n_ff, got.n_ff_expert) == (
        expected.n_embd,
        expected.n_ff,
        expected.n_ff_expert,
    )


A = "gemma4.attention."


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("general.architecture", ("str", "llama"), "'llama' is not a Gemma 4"),
        ("general.architecture", ("u32", 4), "expected str"),
        ("general.architecture", None, "missing"),
        ("gemma4.block_count", ("u32", 0), "0 layers"),
        ("gemma4.block_count", ("u32", 513), "513 layers"),
        ("gemma4.block_count", ("u64", 2**62), "layers"),
        ("gemma4.block_count", ("str", "5"), "expected int"),
        ("gemma4.block_count", ("bool", True), "expected int"),
        ("gemma4.embedding_length", None, "missing"),
        ("gemma4.embedding_length", ("u32", 0), "0 is out of range"),
        ("gemma4.embedding_length", ("i32", -64), "-64 is out of range"),
        ("gemma4.context_length", ("u64", 2**63), "out of range"),
        (A + "key_length", ("f32", 32.0), "expected int"),
        (A + "head_count", ("[u32]", [4, 4]), "2 items for 5 layers"),
        (A + "head_count", ("[str]", ["4"] * 5), "array of string"),
        (A + "head_count", ("str", "4"), "is string"),
        (A + "head_count_kv", ("[i32]", [1, 1, 1, 1, -1]), "-1 is out of range"),
        (A + "head_count_kv", ("[f32]", [1.0] * 5), "array of float32"),
        (A + "sliding_window_pattern", ("[bool]", [True]), "1 item for 5 layers"),
        (A + "sliding_window_pattern", None, "missing"),
        (A + "shared_kv_layers", ("u32", 6), "6 is out of range"),
        (A + "shared_kv_layers", ("i32", -1), "-1 is out of range"),
        ("gemma4.rope.dimension_count", ("u32", 0), "0 is out of range"),
        ("gemma4.rope.dimension_count", ("u32", 33), "33 is out of range"),
        ("gemma4.rope.dimension_count_swa", ("u32", 0), "0 is out of range"),
        ("gemma4.rope.dimension_count_swa", ("u32", 17), "17 is out of range"),
        ("gemma4.expert_used_count", ("u32", 1), "1 is out of range"),
    ],
)
def test_bad_keys_are_named(tmp_path: Path, key: str, value: Any, words: str) -> None:
    with pytest.raises(BadGGUF, match=words) as caught:
        read_shape(tmp_path, {key: value})
    assert caught.value.field == key


def test_a_pattern_may_be_numbers(tmp_path: Path) -> None:
    got = read_shape(tmp_path, {A + "sliding_window_pattern": ("[u32]", [1, 1, 0, 1, 0])})
    assert got.is_swa == (True, True, False, True, False)


def test_a_context_beyond_gemmas_is_capped(tmp_path: Path) -> None:
    keys = gemma4_keys(replace={"gemma4.context_length": ("u32", 2**31 - 1)})
    header = read_header(write_gguf(tmp_path / "x.gguf", keys, []))
    assert shape_of(header).n_ctx_train == MAX_TRAINED_CONTEXT
    assert capped_context(header) == 2**31 - 1
    assert not capped_context(read_header(write_gguf(tmp_path / "x.gguf", gemma4_keys(), [])))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (("str", "llama"), "the tokenizer is 'llama'"),
        (("str", "rwkv"), "'rwkv', a Gemma 4 model has 'gemma4'"),
        (None, "no tokenizer in the file"),
        (("u32", 4), "expected str"),
    ],
)
def test_a_foreign_tokenizer_is_refused_by_the_header(
    tmp_path: Path, value: Any, words: str
) -> None:
    """llama.cpp dies of the first word with 'llama' and hangs at the first accent with 'rwkv'."""
    keys = [key for key in gemma4_keys() if key[0] != "tokenizer.ggml.model"]
    keys += [("tokenizer.ggml.model", *value)] if value else []
    with pytest.raises(BadGGUF, match=words):
        require_tokenizer(read_header(write_gguf(tmp_path / "x.gguf", keys, [])))

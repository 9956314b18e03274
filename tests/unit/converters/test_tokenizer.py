"""tokenizer.json to GGUF keys; the bundled one is compared with llama.cpp's converter in
test_convert.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from g4cli.converters.special_tokens import special_tokens
from g4cli.converters.tokenizer import (
    BYTE,
    CONTROL,
    NORMAL,
    USER_DEFINED,
    read_tokenizer,
    tokenizer_keys,
)
from g4cli.core.errors import BadCheckpoint
from tests.support.builders.checkpoints import TINY, copy_tiny, edit_json

RAW: dict[str, Any] = json.loads((TINY / "config.json").read_text())
BOS, EOS = (
    {"SpecialToken": {"id": "<bos>", "type_id": 0}},
    {"SpecialToken": {"id": "<eos>", "type_id": 0}},
)
A, B = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_tiny(tmp_path / "tiny")


def test_types_of_tokens(folder: Path) -> None:
    tokenizer = read_tokenizer(folder, RAW, 768, with_suppressed=False)
    kinds = dict(zip(tokenizer.tokens, tokenizer.types, strict=True))
    assert kinds["<0x0A>"] == BYTE
    assert kinds["<|turn>"] == kinds["<bos>"] == CONTROL
    assert kinds["\n"] == kinds["<unused0>"] == NORMAL
    visible = [text for text, kind in kinds.items() if kind == USER_DEFINED]
    assert visible == [
        "<|tool_call>",
        "<tool_call|>",
        "<|tool_response>",
        "<tool_response|>",
        '<|"|>',
        "<|channel>",
        "<channel|>",
    ]


def test_special_tokens_by_every_spelling(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["sot_token"] = {"content": "<|turn>", "special": True}
    del settings["eot_token"], settings["think_token"]
    settings["extra_special_tokens"] = ["<turn|>"]
    settings["additional_special_tokens"] = ["ignored: the other one is there"]
    path.write_text(json.dumps(settings))
    types = read_tokenizer(folder, RAW, 768, with_suppressed=False).types
    assert (types[105], types[106], types[98]) == (CONTROL, CONTROL, NORMAL)


STANDARD = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
FIVE = set(STANDARD.values())


# Each row was compared with AutoTokenizer.from_pretrained(...).all_special_tokens of transformers
# 5.23.0.
@pytest.mark.parametrize(
    ("settings", "legacy", "more"),
    [
        ({}, {}, set()),
        ({"x_token": "X", "y_token": {"content": "Y"}}, {}, {"X", "Y"}),
        ({"model_specific_special_tokens": {"x_token": "X"}}, {}, {"X"}),
        ({"x_token": "X", "model_specific_special_tokens": {"y_token": "Y"}}, {}, {"X"}),
        (
            {
                "extra_special_tokens": {"y_token": "Y"},
                "model_specific_special_tokens": {"z_token": "Z"},
            },
            {},
            {"Y"},
        ),
        (
            {"extra_special_tokens": ["Y"], "model_specific_special_tokens": {"z_token": "Z"}},
            {},
            {"Y", "Z"},
        ),
        ({"additional_special_tokens": ["Y"]}, {}, {"Y"}),
        ({"extra_special_tokens": ["X"], "additional_special_tokens": ["Y"]}, {}, {"X"}),
        ({}, {"x_token": "X", "extra_special_tokens": ["Y"]}, {"X", "Y"}),
        ({}, {"x_token": {"content": "X", "lstrip": False}}, {"X"}),
        ({"added_tokens_decoder": {}}, {"x_token": "X"}, set()),
    ],
)
def test_which_tokens_are_special(
    settings: dict[str, Any], legacy: dict[str, Any], more: set[str]
) -> None:
    assert special_tokens({**STANDARD, **settings}, legacy) == FIVE | more


def test_a_token_beyond_the_vocabulary_proper_is_user_defined(folder: Path) -> None:
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    data["added_tokens"].append({"id": 768, "content": "<mine>", "special": False})
    path.write_text(json.dumps(data))
    tokenizer = read_tokenizer(folder, RAW, 769, with_suppressed=False)
    assert (tokenizer.tokens[768], tokenizer.types[768]) == ("<mine>", USER_DEFINED)


def test_merges_of_both_formats(folder: Path) -> None:
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["merges"] = [["a", "b"], ["a ", "b"], "c d"]
    path.write_text(json.dumps(data))
    assert read_tokenizer(folder, RAW, 768, with_suppressed=False).merges == ("a b", "aĠ b", "c d")


@pytest.mark.parametrize("damaged", ["ab", "a b c", ["", ""], ["a", "b", "c"], ["a", 1]])
def test_what_is_no_merge_is_refused(damaged: Any, folder: Path) -> None:
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["merges"] = [damaged]
    path.write_text(json.dumps(data))
    with pytest.raises(BadCheckpoint, match="is not a merge"):
        read_tokenizer(folder, RAW, 768, with_suppressed=False)


@pytest.mark.parametrize(
    ("single", "pair", "expected"),
    [
        ([BOS, A], [BOS, A, BOS, B], {"bos": True, "sep": False}),
        ([BOS, A], [BOS, A, B], {"bos": True}),
        ([A, EOS], [A, EOS, B, EOS], {"eos": True, "sep": False}),
        ([A], [A, B], {}),
    ],
)
def test_what_the_post_processor_adds(
    single: list[Any], pair: list[Any], expected: dict[str, bool], folder: Path
) -> None:
    step = {"type": "TemplateProcessing", "single": single, "pair": pair}
    for processor in (step, {"type": "Sequence", "processors": [step]}):
        edit_json(folder / "tokenizer.json", {"post_processor": processor})
        assert read_tokenizer(folder, RAW, 768, with_suppressed=False).is_added == expected
    edit_json(folder / "tokenizer_config.json", {"add_eos_token": False})
    assert read_tokenizer(folder, RAW, 768, with_suppressed=False).is_added["eos"] is expected.get(
        "eos", False
    )


def test_special_ids_prefer_the_tokenizer_and_fall_back_to_the_config(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", {"pad_token": ..., "bos_token": "<eos>"})
    raw = {**RAW, "bos_token_id": 5, "pad_token_id": None}
    tokenizer = read_tokenizer(folder, raw, 768, with_suppressed=False)
    assert tokenizer.special_ids == {"bos": 1, "eos": 1, "unk": 3, "mask": 4, "pad": 0}
    with pytest.raises(BadCheckpoint, match="pad_token_id is 999"):
        read_tokenizer(folder, {**raw, "pad_token_id": 999}, 768, with_suppressed=False)


def test_the_template_from_each_place(folder: Path) -> None:
    own = (folder / "chat_template.jinja").read_text()
    assert read_tokenizer(folder, RAW, 768, with_suppressed=False).template == own
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text('{"chat_template": "from json"}')
    assert read_tokenizer(folder, RAW, 768, with_suppressed=False).template == "from json"
    named = [{"name": "default", "template": "d"}, {"name": ["tool"], "template": "t"}]
    edit_json(folder / "tokenizer_config.json", {"chat_template": named})
    assert read_tokenizer(folder, RAW, 768, with_suppressed=False).template == "d"
    edit_json(folder / "tokenizer_config.json", {"chat_template": "x" * (1 << 21)})
    with pytest.raises(BadCheckpoint, match="chat template"):
        read_tokenizer(folder, RAW, 768, with_suppressed=False)


def test_suppressed_tokens_only_where_they_belong(folder: Path) -> None:
    edit_json(folder / "generation_config.json", {"suppress_tokens": [7, 8]})
    assert read_tokenizer(folder, RAW, 768, with_suppressed=True).suppressed_ids == (7, 8)
    assert read_tokenizer(folder, RAW, 768, with_suppressed=False).suppressed_ids is None
    for damaged in ([768], [True]):
        edit_json(folder / "generation_config.json", {"suppress_tokens": damaged})
        with pytest.raises(BadCheckpoint, match="suppress_tokens"):
            read_tokenizer(folder, RAW, 768, with_suppressed=True)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model": {"type": "Unigram"}}, "not a byte-fallback BPE"),
        ({"decoder": None}, "not a byte-fallback BPE"),
        ({"added_tokens": [{"id": 900, "content": "<far>"}]}, "the id 900 is too large"),
        ({"added_tokens": [{"id": 5, "content": "<other>"}]}, "the id 5 is that of both"),
        ({"added_tokens": [{"id": 768, "content": "<bos>"}]}, "'<bos>' has both the id 2 and 768"),
        ({"added_tokens": [{"id": "5", "content": "<other>"}]}, "is not a token"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(
    change: dict[str, Any], match: str, folder: Path
) -> None:
    edit_json(folder / "tokenizer.json", change)
    with pytest.raises(BadCheckpoint, match=match):
        read_tokenizer(folder, RAW, 768, with_suppressed=False)


def test_a_vocabulary_of_another_size_is_refused(folder: Path) -> None:
    with pytest.raises(
        BadCheckpoint, match=r"768 tokens, .* 1,000: 232 ids have no token \(first 768\)"
    ):
        read_tokenizer(folder, RAW, 1000, with_suppressed=False)
    with pytest.raises(BadCheckpoint, match=r"2,147,483,000: 2,147,482,232 ids"):  # told at once
        read_tokenizer(folder, RAW, 2_147_483_000, with_suppressed=False)
    with pytest.raises(BadCheckpoint, match=r"768 tokens, .* 700: the id 767 is too large"):
        read_tokenizer(folder, RAW, 700, with_suppressed=False)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BadCheckpoint, match=r"no tokenizer\.json"):
        read_tokenizer(folder, RAW, 768, with_suppressed=False)


def test_keys_end_as_gemma_needs_them(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", {"add_bos_token": False})
    keys = tokenizer_keys(read_tokenizer(folder, RAW, 768, with_suppressed=False))
    assert keys["tokenizer.ggml.model"].data == "gemma4"
    assert keys["tokenizer.ggml.add_bos_token"].data is True  # whatever the settings say
    assert keys["tokenizer.ggml.add_space_prefix"].data is False


@pytest.mark.parametrize(
    ("name", "kind"), [("GemmaTokenizer", CONTROL), (None, CONTROL), ("TokenizersBackend", NORMAL)]
)
def test_the_defaults_of_a_class_hold_for_that_class_alone(
    folder: Path, name: str | None, kind: int
) -> None:
    """As llama.cpp's converter: <mask> is a control token only if somebody says so."""
    edit_json(folder / "tokenizer_config.json", {"mask_token": ..., "tokenizer_class": name or ...})
    tokenizer = read_tokenizer(folder, RAW, 768, with_suppressed=False)
    assert tokenizer.types[tokenizer.tokens.index("<mask>")] == kind
    assert tokenizer.types[tokenizer.tokens.index("<bos>")] == CONTROL

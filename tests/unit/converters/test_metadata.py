"""general.*: names taken apart as gguf-py does, size labels, the model card."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import Metadata
from gguf.utility import size_label as peer_size_label
from hypothesis import given, settings
from hypothesis import strategies as st

from g4cli.converters.metadata import (
    ParameterCounts,
    count_parameters,
    general_keys,
    model_name,
    parse_name,
    size_label,
    title_case,
)
from g4cli.converters.model_card import parse_card
from g4cli.core.ggml import BF16
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.gguf_values import Array

NAMES = (
    "gemma-4-E2B-it",
    "google/gemma-4-E2B-it",
    "google/gemma-4-26B-A4B-it-assistant",
    "gemma-4-31B-it-qat-q4_0-unquantized",
    "gemma-4-12b",
    "tiny",
    "Tiny Model",
    "./models",
    "gemma-4-E4B-it-8x7B-v1.2",
    "model-7b1-chat-32k-bf16",
    "a--b-small-1.5B-instruct",
    "47b6801b24d15ff9bcd8c96dfaea0be9ed3a0301",
    "",
)


@pytest.mark.parametrize("total", [0, 3_900_000, 4_650_000_000, 31_000_000_000])
@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_apart_as_gguf_py_does(name: str, total: int) -> None:
    full, organization, basename, finetune, version, size = Metadata.get_model_id_components(
        name, total
    )
    ours = parse_name(name, total)
    assert (ours.full, ours.organization) == (full, organization)
    assert (ours.basename, ours.finetune) == (basename, finetune)
    assert (ours.version, ours.size_label) == (version, size)
    assert title_case(full) == (Metadata.id_to_title(full) if full is not None else None)


WORDS = st.sampled_from(
    (
        "gemma",
        "4",
        "E2B",
        "it",
        "v1.0",
        "7b",
        "8x7B",
        "A4B",
        "small",
        "chat",
        "q4_0",
        "128k",
        "Foo",
        "7b1",
        "xl",
    )
)


@pytest.mark.slow
@settings(max_examples=300)
@given(words=st.lists(WORDS, min_size=1, max_size=6), total=st.sampled_from((0, 4_000_000_000)))
def test_any_name_is_taken_apart_as_gguf_py_does(words: list[str], total: int) -> None:
    name = "-".join(words)
    full, organization, basename, finetune, version, size = Metadata.get_model_id_components(
        name, total
    )
    ours = parse_name(name, total)
    assert (ours.full, ours.organization, ours.basename) == (full, organization, basename)
    assert (ours.finetune, ours.version, ours.size_label) == (finetune, version, size)


@pytest.mark.parametrize(
    "total", [950, 3_883_008, 76_000_000, 4_647_449_891, 11_907_350_320, 2 * 10**12]
)
def test_size_labels(total: int) -> None:
    assert size_label(ParameterCounts(total, 0, 0, 0)) == peer_size_label(total, 0, 0, 0)
    assert size_label(ParameterCounts(0, total, 7 * total, 128)) == peer_size_label(
        0, total, 7 * total, 128
    )


def test_experts_are_counted_once_each() -> None:
    specs = [
        TensorSpec("blk.0.ffn_gate_up_exps.weight", BF16, (64, 32, 8)),
        TensorSpec("blk.0.ffn_down_exps.weight", BF16, (16, 64, 8)),
        TensorSpec("blk.0.ffn_down_exps.scale", BF16, (8,)),
        TensorSpec("token_embd.weight", BF16, (64, 100)),
    ]
    assert count_parameters(specs) == (
        64 * 32 * 8 + 16 * 64 * 8 + 8 + 6400,
        6408,
        64 * 32 + 16 * 64,
        8,
    )


CARD = """---
license: gemma  # a comment
license_link: "https://ai.google.dev/gemma/docs/gemma_4_license"
pipeline_tag: any-to-any
tags: [one, 'two']
language:
- en
-   de
base_model:
  - google/gemma-4-E2B
model-index:
- name: x
  results: 7
description: 'It''s: fine'
---
# Gemma
license: not this one
"""


def test_a_model_card_gives_its_keys(tmp_path: Path) -> None:
    folder = tmp_path / "gemma-4-E2B-it"
    folder.mkdir()
    (folder / "README.md").write_text(CARD)
    (folder / "generation_config.json").write_text(
        '{"temperature": 1, "top_k": 64, "do_sample": true}'
    )
    keys = general_keys(
        folder, {}, "gemma4", "model", [TensorSpec("token_embd.weight", BF16, (64, 100))]
    )
    plain = {
        name.removeprefix("general."): value.data.tolist()
        if isinstance(value.data, Array)
        else value.data
        for name, value in keys.items()
    }
    assert plain == {
        "architecture": "gemma4",
        "type": "model",
        "sampling.top_k": 64,
        "sampling.temp": 1.0,
        "name": "Gemma 4 E2B It",
        "description": "It's: fine",
        "size_label": "6.4K",
        "license": "gemma",
        "license.link": "https://ai.google.dev/gemma/docs/gemma_4_license",
        "base_model.count": 1,
        "base_model.0.name": "Gemma 4 E2B",
        "base_model.0.organization": "Google",
        "base_model.0.repo_url": "https://huggingface.co/google/gemma-4-E2B",
        "tags": ["one", "two", "any-to-any"],
        "languages": ["en", "de"],
    }


@pytest.mark.parametrize(
    "text", ["", "# no front matter", "---\nlicense: x", "---\n---\n", "---\n- a\n---\n"]
)
def test_an_absent_or_odd_card_has_no_entries(text: str) -> None:
    assert parse_card(text).entries == {}


def test_tabs_indent_and_every_spelling_of_null_is_nothing() -> None:
    # gguf-py's load_model_card replaces tabs by two spaces; YAML 1.1 spells null in these ways.
    text = "---\ntags:\n\t- one\n\t- two\nname: NULL\nurl: Null\ndoi: null\nuuid: ~\n---\n"
    assert parse_card(text).entries == {"tags": ["one", "two"]}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("gemma-4-E2B-it", "gemma-4-E2B-it"),
        (
            "models--google--gemma-4-E2B-it/snapshots/47b6801b24d15ff9bcd8c96dfaea0be9ed3a0301",
            "gemma-4-E2B-it",
        ),
        ("google--gemma-4-E2B-it/47b6801b24d1", "gemma-4-E2B-it"),
        ("some--folder/my-finetune", "my-finetune"),
        (
            "snapshots/47b6801b24d15ff9bcd8c96dfaea0be9ed3a0301",
            "47b6801b24d15ff9bcd8c96dfaea0be9ed3a0301",
        ),
    ],
)
def test_a_folder_of_a_hub_s_cache_is_called_after_its_repository(
    path: str, name: str, tmp_path: Path
) -> None:
    assert model_name(tmp_path / path) == name

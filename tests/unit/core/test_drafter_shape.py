"""Draft models: tensors against published sizes, memory against llama.cpp's own figures."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from g4cli import LLAMA_CPP_PYTHON
from g4cli.core.draft import draft_shape_of, draft_tensors
from g4cli.core.errors import BadGGUF
from g4cli.core.ggml import BY_ID
from g4cli.core.gguf import parse_header, read_header
from g4cli.core.inventory import text_tensors
from g4cli.core.registry import MODELS
from g4cli.estimate import HOST, N_DRAFT, Draft, Options, estimate_memory
from g4cli.estimate.compute import compute_bytes, output_bytes
from g4cli.estimate.draft import draft_compute_bytes, draft_output_bytes
from g4cli.estimate.weights import repacked_types
from g4cli.operations.fit.drafting import add_drafting
from g4cli.operations.fit.subject import describe_model
from g4cli.quant.recipes import Recipe, choose_types
from g4cli.runtime.engine import draft_model
from tests.support.builders import gguf as builders
from tests.support.builders import real_shapes, shapes
from tests.support.paths import TESTS

GOLDEN = TESTS / "golden" / "memory_drafts.json"
# Sizes of published files (unsloth, ggml-org; 26B: the QAT repository's) and the header that they
# share.
PUBLISHED = (
    ("e2b", "q8_0", 97_817_664),
    ("e4b", "q8_0", 98_653_248),
    ("12b", "q8_0", 465_109_248),
    ("31b", "q8_0", 514_687_104),
)
HEADER_BYTES = 15_767_500


@cache
def read_golden() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(GOLDEN.read_text())
    return data


@pytest.mark.parametrize(("model", "kind", "nbytes"), PUBLISHED)
def test_the_inventory_accounts_for_the_published_file(model: str, kind: str, nbytes: int) -> None:
    tensors = choose_types(draft_tensors(shapes.DRAFTS[model]), Recipe(kind))
    assert abs(nbytes - HEADER_BYTES - sum(t.nbytes for t in tensors)) < 400


def test_the_registry_has_the_same_shapes() -> None:
    assert {m.name: m.draft_shape for m in MODELS if m.draft_shape} == {
        name: shape for name, shape in shapes.DRAFTS.items() if name != "tiny"
    }


@pytest.mark.parametrize("model", shapes.DRAFTS)
def test_its_scratch_equals_llama_cpp_in_every_cell(model: str) -> None:
    wrong = []
    cells = [row for row in read_golden()["rows"] if row[3] == model]
    for run, kv, compute, _ in cells:
        given = dict(run)
        draft = Draft(
            shapes.DRAFTS[model],
            n_ubatch=given.pop("n_ubatch_draft"),
            n_outputs=given.pop("n_outputs_draft", 1),
        )
        del given["n_batch_draft"]
        given |= {name: BY_ID[given.get(name, 1)] for name in ("type_k", "type_v")}
        found = draft_compute_bytes(draft, shapes.ALL[model], Options(**given))
        if (0, found) != (kv, compute):
            wrong.append((run, found, compute))
    assert not wrong
    assert len(cells) > 50


@pytest.mark.parametrize("model", shapes.DRAFTS)
@pytest.mark.parametrize("repack", [True, False])
def test_its_weights_equal_llama_cpp_for_every_type(model: str, repack: bool) -> None:
    kinds = repacked_types(frozenset(read_golden()["cpu_features"])) if repack else frozenset()
    for kind, buffers in read_golden()["weights"][model].items():
        tensors = choose_types(draft_tensors(shapes.DRAFTS[model]), Recipe(kind))
        options = Options(256, mmap=False, repack=kinds, draft=Draft(shapes.DRAFTS[model], tensors))
        terms = estimate_memory(shapes.ALL[model], [], options).terms
        found = sum(t.nbytes for t in terms if t.group == "weights")
        assert found == sum(buffers[0 if repack else 1].values()), kind


def test_the_golden_was_recorded_with_the_pinned_library() -> None:
    assert read_golden()["library"] == LLAMA_CPP_PYTHON


def test_drafting_costs_the_model_rows_of_logits() -> None:
    plain, drafting = Options(4096), Options(4096, n_draft=3)
    row = 4 * 262_144
    assert output_bytes(shapes.E2B, drafting) - output_bytes(shapes.E2B, plain) == 3 * row
    rows = replace(plain, n_outputs=4)
    assert compute_bytes(shapes.E2B, drafting) == compute_bytes(shapes.E2B, rows)
    network = replace(drafting, draft=Draft(shapes.DRAFTS["e2b"]))
    # The hidden state of every token of the batch, 2,048 of 1,536 numbers.
    assert output_bytes(shapes.E2B, network) - output_bytes(shapes.E2B, drafting) == 4 * 1536 * 2048
    assert draft_output_bytes(Draft(shapes.DRAFTS["e2b"])) == row + 4 * 1536


def test_the_plan_drafts_as_the_chat_does() -> None:
    assert Draft(shapes.DRAFTS["e2b"]).n_ubatch == draft_model._N_BATCH
    subjects = [describe_model(name) for name in ("tiny", "e2b", "26b")]
    kinds = {s.model: add_drafting(Options(2048), s, "auto").n_draft for s in subjects}
    # Small networks and mixtures of experts gain nothing by drafting: choose_draft leaves it off.
    assert kinds == {"tiny": 0, "e2b": N_DRAFT, "26b": 0}


def test_on_a_gpu_the_drafter_goes_with_the_layers() -> None:
    tensors = choose_types(draft_tensors(shapes.DRAFTS["e2b"]), Recipe("q8_0"))
    own = choose_types(text_tensors(shapes.E2B), Recipe("q8_0"))
    options = Options(4096, n_gpu_layers=-1, n_draft=3, draft=Draft(shapes.DRAFTS["e2b"], tensors))
    terms = [
        t
        for t in estimate_memory(shapes.E2B, own, options, ("CUDA0",)).terms
        if "draft model" in t.name
    ]
    on_gpu = sum(t.nbytes for t in terms if t.device == "CUDA0" and t.group == "weights")
    on_host = sum(t.nbytes for t in terms if t.device == HOST and t.group == "weights")
    embeddings = next(t.nbytes for t in tensors if t.name == "token_embd.weight")
    assert on_host == embeddings  # rows of them are picked there; the output matrix is a copy
    assert on_gpu == sum(t.nbytes for t in tensors)


def test_a_drafter_is_read_from_its_file(tmp_path: Path) -> None:
    path = real_shapes.build_draft(tmp_path / "d.gguf", shapes.TINY, shapes.DRAFTS["tiny"], "q8_0")
    assert draft_shape_of(read_header(path)) == shapes.DRAFTS["tiny"]


def test_another_file_is_no_drafter() -> None:
    data = builders.build_gguf([("general.architecture", "str", "gemma4")])
    with pytest.raises(BadGGUF, match="not a draft model"):
        draft_shape_of(parse_header(data, path="x", file_size=len(data)))
    keys = [("general.architecture", "str", "gemma4-assistant")]
    data = builders.build_gguf([*keys, ("gemma4-assistant.block_count", "u32", 2**31 - 1)])
    with pytest.raises(BadGGUF, match="1 to 512"):
        draft_shape_of(parse_header(data, path="x", file_size=len(data)))

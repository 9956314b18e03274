"""Estimates equal llama.cpp's own figures, as tests/oracle/record_memory.py recorded them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from g4cli import LLAMA_CPP_PYTHON
from g4cli.core.errors import BadFile, UsageError
from g4cli.core.ggml import BF16, BY_ID, BY_NAME
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.inventory import text_tensors
from g4cli.core.units import MIB
from g4cli.estimate import HOST, Estimate, Options, Term, estimate_memory, kv_bytes, kv_cells
from g4cli.estimate.compute import compute_bytes, output_bytes
from g4cli.estimate.weights import repacked_types
from g4cli.quant.recipes import Recipe, choose_types
from tests.support.builders import shapes
from tests.support.paths import GOLDEN


@cache
def read_golden(model: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((GOLDEN / f"memory_{model}.json").read_text())
    return data


def options_of(recorded: dict[str, Any]) -> Options:
    given = {"n_ctx": 4096, **recorded}
    for name in ("type_k", "type_v"):
        given[name] = BY_ID[given.get(name, 1)]
    return Options(**given)


@pytest.mark.slow
@pytest.mark.parametrize("model", shapes.ALL)
def test_kv_compute_and_output_equal_llama_cpp_in_every_cell(model: str) -> None:
    shape, wrong = shapes.ALL[model], []
    for recorded, kv, compute, output, caches in read_golden(model)["rows"]:
        options = options_of(recorded)
        cells = kv_cells(shape, options)
        found = (
            sum(kv_bytes(shape, options)),
            compute_bytes(shape, options),
            round(
                output_bytes(shape, options) / MIB, 2
            ),  # llama.cpp only prints it, with two digits
            [cells.full, cells.swa],
        )
        if found != (kv, compute, round(output / MIB, 2), [c for c, _ in caches]):
            wrong.append((recorded, found, (kv, compute, output, caches)))
    assert not wrong


@pytest.mark.parametrize("model", shapes.ALL)
@pytest.mark.parametrize("repack", [True, False])
def test_weights_equal_llama_cpp_for_every_type(model: str, repack: bool) -> None:
    shape, data = shapes.ALL[model], read_golden(model)
    kinds = repacked_types(frozenset(data["cpu_features"])) if repack else frozenset()
    for type_name, buffers in data["weights"].items():
        tensors = choose_types(text_tensors(shape), Recipe(type_name))
        # llama.cpp plans without mmap: padded tensors, the tied embeddings twice.
        found = estimate_memory(shape, tensors, Options(512, mmap=False, repack=kinds))
        repacked = sum(t.nbytes for t in found.terms if "repacked" in t.name)
        recorded = buffers[0 if repack else 1]
        assert repacked == recorded.get("CPU_REPACK", 0), type_name
        assert found.weights_bytes - repacked == recorded["CPU"], type_name


def test_the_grid_is_the_one_that_was_promised() -> None:
    """Five shapes and contexts, three types, two ubatches, with and without both options."""
    for model in shapes.PUBLISHED:
        contexts = 5 if shapes.ALL[model].n_ctx_train == 262144 else 4
        # Quantised V needs flash attention: f16 has two settings of it, the others one.
        assert len(read_golden(model)["rows"]) >= contexts * 2 * 2 * (2 + 1 + 1)


@pytest.mark.parametrize("model", shapes.ALL)
def test_goldens_were_recorded_with_the_pinned_library(model: str) -> None:
    assert read_golden(model)["library"] == LLAMA_CPP_PYTHON


def small_network() -> list[TensorSpec]:
    return [
        TensorSpec("token_embd.weight", BY_NAME["Q6_K"], (256, 1024)),
        TensorSpec("per_layer_token_embd.weight", BY_NAME["Q4_0"], (256, 1024)),
        TensorSpec("blk.0.attn_q.weight", BY_NAME["Q4_0"], (256, 64)),
        TensorSpec("blk.0.attn_norm.weight", BY_NAME["F32"], (250,)),
        TensorSpec("blk.0.ffn_up.weight", BF16, (256, 64)),
    ]


def by_name(found: Estimate) -> dict[str, Term]:
    return {t.name: t for t in found.terms}


def test_mapped_weights_are_not_copied_but_for_the_repacked() -> None:
    """210/256 and 18/32 bytes per weight; the vector is not padded, since it lies in the file."""
    terms = by_name(
        estimate_memory(shapes.TINY, small_network(), Options(512, repack=frozenset({"Q4_0"})))
    )
    assert terms["weights"].nbytes == 1024 * 210 + 4 * 250 + 2 * 256 * 64
    assert terms["per-layer embeddings"].nbytes == 1024 * 256 // 32 * 18
    assert terms["weights, repacked"].nbytes == 64 * 256 // 32 * 18
    assert terms["page cache"].nbytes == terms["weights, repacked"].nbytes
    assert "output matrix" not in terms


def test_without_mmap_the_embeddings_are_loaded_twice_and_vectors_are_padded() -> None:
    terms = by_name(estimate_memory(shapes.TINY, small_network(), Options(512, mmap=False)))
    assert terms["output matrix"].nbytes == 1024 * 210
    assert terms["weights"].nbytes == 1024 * 210 + 64 * 256 // 32 * 18 + 1024 + 2 * 256 * 64
    assert "page cache" not in terms


def test_a_file_with_an_output_matrix_of_its_own_copies_nothing() -> None:
    tensors = [*small_network(), TensorSpec("output.weight", BY_NAME["Q6_K"], (256, 1024))]
    assert "output matrix" not in by_name(
        estimate_memory(shapes.TINY, tensors, Options(512, mmap=False))
    )


def test_lazy_per_layer_embeddings_take_no_memory() -> None:
    eager = estimate_memory(shapes.TINY, small_network(), Options(512))
    lazy = estimate_memory(shapes.TINY, small_network(), Options(512, lazy_ple=True))
    assert by_name(lazy)["per-layer embeddings"].group == "disk"
    assert eager.total_bytes - lazy.total_bytes == 1024 * 256 // 32 * 18


def test_sums() -> None:
    found = Estimate(
        (
            Term("a", HOST, "weights", 1),
            Term("b", "GPU0", "weights", 20),
            Term("c", HOST, "kv", 300),
            Term("d", HOST, "compute", 4000),
            Term("e", HOST, "process", 50000),
            Term("f", HOST, "cache", 600000),
            Term("g", HOST, "disk", 7000000),
        )
    )
    assert (found.weights_bytes, found.kv_bytes, found.compute_bytes) == (21, 300, 4000)
    assert found.total_bytes == 54321
    assert found.resident_bytes == 654301
    assert found.sum_bytes(device="GPU0") == 20


HUGE = 2**31 - 1
STRANGE = (
    {"n_expert": HUGE, "n_expert_used": HUGE, "n_ff_expert": 1},
    {"n_expert": 4, "n_expert_used": 5, "n_ff_expert": 1},
    {"n_swa": HUGE},
    {"n_embd": HUGE, "n_vocab": HUGE, "n_ctx_train": HUGE},
    {"n_embd_per_layer": HUGE},
    {"head_dim": 1, "head_dim_swa": HUGE},
    {"n_shared_kv": 10},
    {"n_vocab": 0},
)


@pytest.mark.parametrize("changes", STRANGE)
def test_strange_shapes_give_a_number_or_an_error_at_once(changes: dict[str, int]) -> None:
    """A header may say anything within a number's range: no hang, no crash, no memory."""
    shape = replace(shapes.TINY, **changes)
    for kind in ("F16", "Q8_0"):
        options = Options(2048, type_k=BY_NAME[kind], type_v=BY_NAME[kind])
        with suppress(UsageError, BadFile):
            assert estimate_memory(shape, small_network(), options).total_bytes > 0


def test_one_row_of_logits_saves_half_a_gibibyte() -> None:
    """llama.cpp reserves logits for a whole ubatch unless only the last row is requested."""
    chat, every = Options(8192), Options(8192, n_outputs=0)
    saved = compute_bytes(shapes.E2B, every) - compute_bytes(shapes.E2B, chat)
    assert 400 * MIB < saved < 512 * MIB

"""Which type each tensor gets: llama.cpp itself is asked, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from g4cli.core.ggml import BY_ID, BY_NAME
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.inventory import text_tensors
from g4cli.quant.recipes import (
    TYPES,
    Recipe,
    choose_tensors,
    converter_type,
)
from tests.support.builders.shapes import ALL
from tests.support.run.llama_types import ask

LLAMA_TYPES = [t for t in TYPES if t != "sfp8"]


@pytest.mark.slow
def test_goldens_are_what_llama_cpp_answers() -> None:
    requests, ours = [], []
    for shape in ALL.values():
        for name in LLAMA_TYPES:
            for pure in (False, True):
                choices = choose_tensors(text_tensors(shape), Recipe(name, pure=pure))
                ours.append([c.type.name for c in choices])
                model = {
                    "n_embd": shape.n_embd,
                    "n_ff": shape.n_ff[0],
                    "n_layer": shape.n_layer,
                    "n_head": shape.n_head[0],
                    "n_head_kv": shape.n_head_kv[0],
                    "n_expert": shape.n_expert,
                    "n_embd_head_k": shape.head_dim,
                    "n_embd_head_v": shape.head_dim,
                }
                tensors = [(c.name, c.source.id, c.shape) for c in choices]
                requests.append({"type": name, "pure": pure, "model": model, "tensors": tensors})
    theirs = [[BY_ID[number].name for number in answer] for answer in ask(requests)]
    assert theirs == ours


def test_recipes_need_no_numpy() -> None:
    code = (
        "import sys; from g4cli.quant.recipes import Recipe, choose_types; "
        "from g4cli.quant.plan import plan_file; "
        "choose_types([], Recipe('q4_0')); sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
def test_eight_experts_have_rules_of_their_own() -> None:
    """No published Gemma has 8; to one that was pruned llama.cpp's rules for Mixtral apply."""
    rows = [
        ("blk.0.attn_q.weight", (256, 256)),
        ("blk.0.attn_k.weight", (256, 64)),
        ("blk.0.attn_v.weight", (256, 64)),
        ("blk.0.attn_output.weight", (256, 256)),
        ("blk.0.ffn_gate_inp.weight", (256, 8)),
    ]
    specs = [TensorSpec(n, converter_type(n, s), s) for n, s in rows]
    model = {
        "n_embd": 256,
        "n_ff": 256,
        "n_layer": 1,
        "n_head": 4,
        "n_head_kv": 1,
        "n_expert": 8,
        "n_embd_head_k": 64,
        "n_embd_head_v": 64,
    }
    requests, ours = [], []
    for name in LLAMA_TYPES:
        choices = choose_tensors(specs, Recipe(name))
        ours.append([c.type.id for c in choices])
        tensors = [(c.name, c.source.id, c.shape) for c in choices]
        requests.append({"type": name, "model": model, "tensors": tensors})
    assert ask(requests) == ours
    assert BY_NAME["Q5_K"].id in ours[LLAMA_TYPES.index("q4_k_m")]

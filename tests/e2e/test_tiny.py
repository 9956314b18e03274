"""The bundled network is what the README says: Gemma 4's E-kind in small, and it knows its corpus.

The whole corpus at every type is measured by `tests/oracle/measure_tiny.py`; here every third
dialogue is asked through g4's own conversion, quantiser and engine.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from g4cli.chat import Finished, TurnOptions, run_turn
from g4cli.core.ggml import BF16
from g4cli.core.gguf import read_header
from g4cli.core.paths import tiny_dir
from g4cli.core.shape import shape_of
from g4cli.prompt.messages import Message
from g4cli.prompt.render import PromptStyle, render
from g4cli.runtime.engine.llama_engine import LlamaEngine
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions, ModelOptions, Sampling
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.store.models import find_model_file

TINY = tiny_dir()
CORPUS = [json.loads(line) for line in (TINY / "corpus.jsonl").read_text().splitlines()]
MAX_TOKENS = 160


def pull(name: str, folder: Path) -> Path:
    """`g4 pull NAME` into `folder`, and the file."""
    from g4cli.cli.main import run

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("G4_HOME", str(folder))
        assert run(["pull", name, "--quiet"]) == 0
        return find_model_file(name).path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def test_the_checkpoint_is_small_and_complete() -> None:
    assert (TINY / "model.safetensors").stat().st_size <= 8_000_000
    for name in ("config.json", "tokenizer.json", "generation_config.json", "chat_template.jinja"):
        assert (TINY / name).is_file()


def test_it_has_every_trait_of_the_e_kind(store: Path) -> None:
    header = read_header(pull("tiny", store))
    shape = shape_of(header)
    assert shape.n_embd_per_layer > 0  # per-layer embeddings
    assert shape.n_shared_kv == 5
    assert shape.is_swa == ((True,) * 4 + (False,)) * 2  # 4:1, and the last layer is global
    assert shape.n_ff[-1] == 2 * shape.n_ff[0]  # the double-wide MLP of the shared layers
    assert shape.head_dim == 2 * shape.head_dim_swa
    assert header.get("gemma4.final_logit_softcapping", float) == 30.0
    assert "output.weight" not in header.tensors  # tied
    assert "rope_freqs.weight" in header.tensors  # proportional RoPE
    # The two tables that llama.cpp's Q4_0 recipe stores as Q6_K need rows of whole 256-blocks.
    for name in ("token_embd.weight", "per_layer_token_embd.weight"):
        assert header.tensors[name].shape[0] % 256 == 0
        assert header.tensors[name].type is BF16


def test_the_control_tokens_have_their_real_ids() -> None:
    vocab = json.loads((TINY / "tokenizer.json").read_text())["model"]["vocab"]
    real = {
        "<pad>": 0,
        "<eos>": 1,
        "<bos>": 2,
        "<unk>": 3,
        "<mask>": 4,
        "<|tool_call>": 48,
        "<|tool_response>": 50,
        "<|think|>": 98,
        "<|channel>": 100,
        "<channel|>": 101,
        "<|turn>": 105,
        "<turn|>": 106,
        "\n": 107,
        "\n\n": 108,
        "<0x00>": 238,
        "<0xFF>": 493,
    }
    assert {token: vocab.get(token) for token in real} == real


def ask(engine: LlamaEngine, dialogue: dict[str, object]) -> list[bool]:
    """Return for each answer whether it is exact, and whether the model stopped by itself."""
    rows = dialogue["messages"]
    assert isinstance(rows, list)
    results = []
    for index, row in enumerate(rows):
        if row["role"] != "assistant":
            continue
        messages = [Message(r["role"], r["content"]) for r in rows[:index]]
        style = PromptStyle(think=bool(dialogue.get("think")))
        engine.begin(Sampling(temp=0))
        tokens = engine.prompts.tokens_of(render(messages, style))
        events = list(run_turn(engine, tokens, TurnOptions(max_tokens=MAX_TOKENS)))
        finished = events[-1]
        assert isinstance(finished, Finished)
        reply = finished.reply
        results.append(
            reply.text.strip() == row["content"].strip() and reply.finish_reason == "stop"
        )
    return results


@pytest.mark.slow
@pytest.mark.parametrize("type_name", ["bf16", "q8_0", "sfp8", "q4_0"])
def test_it_answers_its_corpus_word_for_word(store: Path, type_name: str) -> None:
    model = Model(pull(f"tiny:{type_name}", store), ModelOptions())
    engine = LlamaEngine(model, ContextOptions(n_ctx=2048), Interrupt())
    right = [ok for dialogue in CORPUS[::3] for ok in ask(engine, dialogue)]
    engine.close_context()
    model.close()
    assert len(right) > 130
    # Measured with ggml built for AMX, AVX2 and SSE: all of 141 as BF16, Q8_0 and SFP8, 140 as
    # Q4_0.
    assert sum(right) >= 0.95 * len(right), f"{sum(right)} of {len(right)}"

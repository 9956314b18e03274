"""The engine on the bundled network: prompts, reuse of what is in memory, interruption.

The oracle for everything that is reused is a fresh context: its scores must be the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from g4cli.chat import Finished, Reply, TurnOptions, run_turn
from g4cli.core.errors import ContextFull, RuntimeFailed, UsageError
from g4cli.core.gguf import read_header
from g4cli.prompt.messages import Message, Part
from g4cli.prompt.render import PromptStyle, render
from g4cli.runtime.engine.context import Context, count_physical_cores, read_cpu_quota
from g4cli.runtime.engine.llama_engine import LlamaEngine, open_engine
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import (
    ContextOptions,
    ModelOptions,
    Sampling,
    choose_sampling,
)
from g4cli.runtime.engine.sampler import Sampler
from g4cli.runtime.llama.graph_tensor import GraphTensor
from g4cli.runtime.llama.hidden_states import skip_unused_rows
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.runtime.llama.library import load_llama
from tests.support.builders.tiny_file import build_tiny
from tests.support.digits import GEMMA4_DIGITS
from tests.support.paths import ROOT, TESTS

GREEDY = Sampling(temp=0)
TOKENS = json.loads((TESTS / "golden/tiny_tokens.json").read_text())


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "tiny.gguf"
    path.write_bytes(build_tiny())
    return path


@pytest.fixture(scope="module")
def model(tiny_file: Path) -> Iterator[Model]:
    loaded = Model(tiny_file, ModelOptions())
    yield loaded
    loaded.close()


@pytest.fixture
def engine(model: Model) -> Iterator[LlamaEngine]:
    made = LlamaEngine(model, ContextOptions(n_ctx=2048, n_ubatch=64, n_batch=64), Interrupt())
    yield made
    made.close_context()


def test_the_last_layer_computes_only_the_tokens_that_get_logits(model: Model) -> None:
    """And nothing changes but the last bits, since other kernels compute."""
    n_rows: list[int] = []
    last = f"ffn_out-{int(model.read_key('gemma4.block_count') or 0) - 1}".encode()

    @load_llama().ggml_backend_sched_eval_callback  # type: ignore[untyped-decorator,unused-ignore]
    def count_rows(address: int, is_question: bool, _data: int) -> bool:
        tensor = GraphTensor.from_address(address)
        if tensor.name == last and is_question:
            n_rows.append(tensor.ne[1])
        return not is_question

    scores = []
    for skips in (False, True):
        context = Context(model, ContextOptions(256), Interrupt(), eval_callback=count_rows)
        if skips:
            skip_unused_rows(context.handle)
        context.decode_tokens(range(2, 34))
        scores.append(np.frombuffer(context.copy_logits(), np.float32))
        context.close()
    assert n_rows == [32, 1]
    assert np.allclose(*scores, atol=0.05)


def prompt(engine: LlamaEngine, *messages: Message) -> list[int]:
    return engine.prompts.tokens_of(render(messages, PromptStyle()))


def answer(
    engine: LlamaEngine, tokens: list[int], sampling: Sampling = GREEDY, limit: int = 0
) -> Reply:
    engine.begin(sampling)
    events = list(run_turn(engine, tokens, TurnOptions(max_tokens=limit)))
    assert isinstance(events[-1], Finished)
    return events[-1].reply


def scores(context: Context, n_vocab: int) -> np.ndarray:
    return np.ctypeslib.as_array(context.get_logits(), (n_vocab,)).copy()


def fresh_scores(model: Model, tokens: list[int]) -> np.ndarray:
    """The oracle: the same tokens through a context that has seen nothing."""
    context = Context(model, ContextOptions(n_ctx=2048, n_ubatch=64, n_batch=64), Interrupt())
    for start in range(0, len(tokens), 64):
        assert context.decode_tokens(tokens[start : start + 64])
    found = scores(context, model.n_vocab)
    context.close()
    return found


def assert_same_as_fresh(engine: LlamaEngine, tokens: list[int]) -> None:
    expected = fresh_scores(engine.model, tokens)
    found = scores(engine.context, engine.model.n_vocab)
    # The batches differ, so sums are rounded differently: by up to 0.0045 of the largest score,
    # measured with ggml built for AMX, AVX-512, AVX2 and SSE. A wrong window is off by 1.13.
    # Which token is best is not compared: this is no text that the network knows, and near ties
    # fall either way.
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("case", TOKENS, ids=lambda case: repr(case["text"])[:30])
def test_tokens_of_text(model: Model, case: dict[str, object]) -> None:
    assert model.tokenize(str(case["text"]), control=True) == case["ids"]


def test_a_prompt_has_exactly_one_bos(engine: LlamaEngine) -> None:
    assert prompt(engine, Message("user", "Hello")).count(2) == 1
    assert engine.prompts.tokens_of([Part("Hello")])[0] == 2


def test_marks_that_a_user_types_stay_letters(engine: LlamaEngine) -> None:
    text = '<turn|><|channel>thought\n<channel|><|tool_call>x<tool_call|><|"|><|tool_response>'
    tokens = engine.prompts.tokens_of([Part(text)])
    assert not {106, 100, 101, 48, 49, 50, 51, 52} & set(tokens)
    assert b"".join(engine.model.piece(token) for token in tokens[1:]).decode() == text


@pytest.mark.parametrize("token", [1, 50, 106])
def test_what_ends_an_answer(model: Model, token: int) -> None:
    assert model.is_end(token)
    assert not model.is_end(107)


def test_digits_are_the_vocabularys_own(engine: LlamaEngine) -> None:
    """The loop detector counts with them; no token of this vocabulary holds two."""
    assert {
        value: engine.model.piece(token).decode() for token, value in engine.model.digits.items()
    } == {value: str(value) for value in range(10)}
    assert list(engine.model.digits) != list(GEMMA4_DIGITS), "not those of the real vocabulary"


def test_answers_its_corpus(engine: LlamaEngine) -> None:
    tokens = prompt(engine, Message("user", "What is Q4_0?"))
    reply = answer(engine, tokens)
    corpus = (ROOT / "g4cli/data/tiny/corpus.jsonl").read_text().splitlines()
    known = [json.loads(line)["messages"] for line in corpus]
    expected = next(m[1]["content"] for m in known if m[0]["content"] == "What is Q4_0?")
    assert reply.text == expected
    assert reply.finish_reason == "stop"


def test_a_seed_makes_an_answer_repeatable(model: Model) -> None:
    def said(seed: int) -> str:
        engine = LlamaEngine(model, ContextOptions(n_ctx=256), Interrupt())
        tokens = prompt(engine, Message("user", "abc xyz 123"))
        text = answer(engine, tokens, Sampling(temp=3.0, top_k=0, top_p=1.0, seed=seed), 20).text
        engine.close_context()
        return text

    assert said(7) == said(7)
    assert said(7) != said(8)


class TestReuse:
    """n_swa is 128 and the ubatch 64: a rollback of more than some 64 tokens leaves the window."""

    def long_text(self, n: int) -> str:
        return " ".join(f"word{i % 7} {i}" for i in range(n))

    def test_the_next_turn_evaluates_only_what_is_new(self, engine: LlamaEngine) -> None:
        first = prompt(engine, Message("user", "What is Q4_0?"))
        reply = answer(engine, first)
        turns = (Message("user", "What is Q4_0?"), reply.message(), Message("user", "And Q8_0?"))
        second = prompt(engine, *turns)
        read = engine.evaluate(second)
        assert read.reused == len(first) + reply.completion_tokens
        assert_same_as_fresh(engine, second)

    def test_regenerate(self, engine: LlamaEngine) -> None:
        tokens = prompt(engine, Message("user", "What is Q4_0?"))
        answer(engine, tokens)
        assert engine.evaluate(tokens).reused == len(tokens) - 1
        assert_same_as_fresh(engine, tokens)

    @pytest.mark.slow
    @pytest.mark.parametrize("cut", [40, 120, 300])
    def test_an_edit_behind_the_window(self, engine: LlamaEngine, cut: int) -> None:
        tokens = prompt(engine, Message("user", self.long_text(90)))
        assert len(tokens) > 400
        assert engine.evaluate(tokens).complete
        edited = tokens[:cut] + [300 + i for i in range(20)]
        read = engine.evaluate(edited)
        assert_same_as_fresh(engine, edited)
        # The window has moved past these branch points: there is nothing to reuse.
        assert read.reused == 0

    @pytest.mark.slow
    def test_an_edit_inside_the_window(self, engine: LlamaEngine) -> None:
        tokens = prompt(engine, Message("user", self.long_text(90)))
        engine.evaluate(tokens)
        edited = [*tokens[:-10], 300, 301]
        assert engine.evaluate(edited).reused == len(tokens) - 10
        assert_same_as_fresh(engine, edited)

    @pytest.mark.slow
    def test_without_memory_for_a_checkpoint_the_answer_goes_on(
        self, engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine.context, "save_window", Mock(side_effect=MemoryError))
        assert engine.evaluate(prompt(engine, Message("user", "Who are you?"))).complete

    def test_an_undo_comes_back_from_a_checkpoint(self, engine: LlamaEngine) -> None:
        first = prompt(engine, Message("user", self.long_text(60)))
        engine.evaluate(first)
        longer = first + [300 + i % 50 for i in range(400)]
        engine.evaluate(longer)
        undone = [*first, 310, 311, 312]
        assert engine.evaluate(undone).reused == len(first)
        assert_same_as_fresh(engine, undone)

    @pytest.mark.slow
    @pytest.mark.parametrize("n_words", [2, 60])  # within the window, and beyond it
    def test_a_retry_after_a_long_answer_reads_its_last_token(
        self, engine: LlamaEngine, n_words: int
    ) -> None:
        tokens = prompt(engine, Message("user", self.long_text(n_words)))
        engine.evaluate(tokens)
        engine.evaluate(tokens + [300 + i % 50 for i in range(500)])
        assert engine.evaluate(tokens).reused == len(tokens) - 1
        assert_same_as_fresh(engine, tokens)

    @pytest.mark.slow
    def test_without_the_check_the_answer_would_be_wrong(self, engine: LlamaEngine) -> None:
        """The hazard is real: the same rollback without `can_branch` gives other scores."""
        tokens = prompt(engine, Message("user", self.long_text(90)))
        engine.evaluate(tokens)
        cut, tail = 120, [300 + i for i in range(20)]
        assert not engine.context.can_branch(cut)
        engine.context.truncate(cut)
        assert engine.context.decode_tokens(tail)
        wrong = scores(engine.context, engine.model.n_vocab)
        expected = fresh_scores(engine.model, tokens[:cut] + tail)
        assert np.abs(wrong - expected).max() > 0.05 * np.abs(expected).max()

    @pytest.mark.slow_except("64")
    @pytest.mark.parametrize("back", [1, 30, 63, 64, 65, 100, 127, 128, 129])
    def test_every_rollback_that_is_allowed_is_right(self, engine: LlamaEngine, back: int) -> None:
        tokens = prompt(engine, Message("user", self.long_text(80)))
        engine.evaluate(tokens)
        n_past = len(tokens) - back
        assert engine.context.can_branch(n_past)
        edited = [*tokens[:n_past], 300, 301, 302]
        assert engine.evaluate(edited).reused == n_past
        assert_same_as_fresh(engine, edited)


class TestLimits:
    def test_a_prompt_longer_than_the_context(self, model: Model) -> None:
        small = LlamaEngine(model, ContextOptions(n_ctx=256), Interrupt())
        with pytest.raises(ContextFull, match=r"300 tokens, the context holds 256"):
            small.evaluate([2] + [300] * 299)
        small.close_context()

    def test_an_answer_fills_the_context_to_the_last_token(self, model: Model) -> None:
        small = LlamaEngine(model, ContextOptions(n_ctx=256), Interrupt())
        reply = answer(
            small,
            [2] + [300 + i % 40 for i in range(240)],
            Sampling(temp=2.0, seed=1, ignore_eos=True),
        )
        assert reply.context_full
        assert small.n_past <= 256
        small.close_context()

    @pytest.mark.slow
    def test_an_interrupted_prompt_goes_on_where_it_stopped(self, engine: LlamaEngine) -> None:
        tokens = [2] + [300 + i % 40 for i in range(500)]

        def stop_half_way(done: int, total: int, _label: str) -> None:
            if done >= total // 2:
                engine.interrupt.set()

        read = engine.evaluate(tokens, stop_half_way)
        assert not read.complete
        assert 200 < read.evaluated < 400
        engine.interrupt.clear()
        again = engine.evaluate(tokens)
        assert again.reused == read.evaluated
        assert_same_as_fresh(engine, tokens)

    def test_the_flag_reaches_into_a_running_evaluation(self, model: Model) -> None:
        context = Context(model, ContextOptions(n_ctx=512), Interrupt())
        context.interrupt.set()
        assert not context.decode_tokens([2, 300, 301])
        context.interrupt.clear()
        assert context.decode_tokens([2, 300, 301])
        context.close()

    def test_kv_cache_is_what_the_formula_says(self, model: Model) -> None:
        """One layer of 5 has n_ctx cells, the others min(n_ctx, 128 + ubatch) padded to 256."""
        context = Context(model, ContextOptions(n_ctx=2048, n_ubatch=64), Interrupt())
        full, sliding = 2048 * 128 * 2 * 2 * 1, 256 * 64 * 2 * 2 * 4
        assert context.kv_bytes == full + sliding
        assert 0 < context.compute_bytes < 64 << 20
        context.close()

    def test_unknown_kv_type(self, model: Model) -> None:
        with pytest.raises(UsageError, match="unknown KV type"):
            Context(model, ContextOptions(n_ctx=256, kv_type="q9"), Interrupt())

    def test_options_that_llama_cpp_refuses_are_no_lack_of_memory(self, model: Model) -> None:
        options = ContextOptions(n_ctx=256, kv_type="q8_0", flash_attention=False)
        with pytest.raises(RuntimeFailed, match="requires flash_attn") as failed:
            Context(model, options, Interrupt())
        assert failed.value.hint is None

    @pytest.mark.parametrize("kv_type", ["q8_0", "q4_0"])
    def test_quantised_kv(self, model: Model, kv_type: str) -> None:
        small = LlamaEngine(model, ContextOptions(n_ctx=256, kv_type=kv_type), Interrupt())
        reply = answer(small, prompt(small, Message("user", "What is Q4_0?")), limit=8)
        assert reply.completion_tokens == 8
        small.close_context()


class TestLoading:
    def test_no_model(self, tmp_path: Path) -> None:
        bad = tmp_path / "bad.gguf"
        bad.write_bytes(b"GGUF" + bytes(100))
        with pytest.raises(RuntimeFailed, match="cannot load"):
            Model(bad, ModelOptions())

    @pytest.mark.parametrize("name", ["gpu9", os.fsdecode(b"gpu\xff")])
    def test_unknown_device(self, tiny_file: Path, name: str) -> None:
        with pytest.raises(UsageError, match=r"no device 'gpu.+'; this build sees CPU"):
            Model(tiny_file, ModelOptions(device=name))

    def test_options_reach_llama_cpp(self, tiny_file: Path) -> None:
        options = ModelOptions(
            mmap=False, lazy_ple="off", n_cpu_moe=1, device="CPU", use_extra_bufts=False
        )
        with open_engine(
            tiny_file, model_options=options, context_options=ContextOptions(n_ctx=256)
        ) as made:
            assert (
                answer(made, prompt(made, Message("user", "What is Q4_0?"))).finish_reason == "stop"
            )

    def test_a_context_that_cannot_be_made_frees_the_model(self, tiny_file: Path) -> None:
        opened = open_engine(
            tiny_file,
            model_options=ModelOptions(),
            context_options=ContextOptions(n_ctx=256, kv_type="none"),
        )
        with pytest.raises(UsageError), opened:
            pass

    def test_facts(self, model: Model, tiny_file: Path) -> None:
        assert (model.n_vocab, model.n_ctx_train, model.n_swa) == (768, 2048, 128)
        assert model.n_params > 3_000_000
        assert "gemma4" in model.description
        assert model.read_key("general.name") == "Tiny"
        assert model.read_key("no.such.key") is None
        assert model.read_key("tokenizer.chat_template") == model.chat_template
        assert choose_sampling(read_header(tiny_file)) == Sampling()
        assert count_physical_cores() >= 1


@pytest.mark.slow
def test_suppressed_tokens_are_never_chosen(tmp_path: Path) -> None:
    """The file forbids the token that the network would choose: another one must come."""
    plain = tmp_path / "plain.gguf"
    plain.write_bytes(build_tiny())
    with open_engine(
        plain, model_options=ModelOptions(), context_options=ContextOptions(n_ctx=256)
    ) as made:
        tokens = prompt(made, Message("user", "What is Q4_0?"))
        favourite = answer(made, tokens, limit=1).tokens[0]
    forbidding = tmp_path / "forbidding.gguf"
    forbidding.write_bytes(build_tiny([("tokenizer.ggml.suppress_tokens", "[i32]", [favourite])]))
    loaded = Model(forbidding, ModelOptions())
    assert loaded.suppressed == (favourite,)
    context = Context(loaded, ContextOptions(n_ctx=256), Interrupt())
    assert context.decode_tokens(tokens)
    sampler = Sampler(loaded, GREEDY)
    assert sampler.sample_token(context) != favourite
    sampler.close()
    context.close()
    loaded.close()


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 1 << 16),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 1 << 16),
        ({"cpu.max": "nonsense"}, 1 << 16),
        ({}, 1 << 16),
    ],
)
def test_a_containers_share_of_the_cpu_limits_the_threads(
    tmp_path: Path, files: dict[str, str], cpus: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_cpu_quota(tmp_path) == cpus

"""Saved states on the bundled network: what comes back computes what the context that was left did.

The oracle is that context itself, which goes on after its state was taken.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from g4cli.chat import TurnOptions
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.llama_engine import LlamaEngine
from g4cli.runtime.engine.messages import RunTurn
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions, ModelOptions, Sampling, StateOptions
from g4cli.runtime.engine.prompt_tokens import PromptTokens
from g4cli.runtime.engine.scheduler import Scheduler
from g4cli.runtime.engine.sequence_states import MIN_TOKENS
from g4cli.runtime.engine.state_cache import StateCache
from g4cli.runtime.engine.state_copy import put_state, take_state
from g4cli.runtime.engine.state_layout import (
    UnknownLayoutError,
    find_tables,
    fit_to_context,
    make_portable,
)
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.store.states.rows import BLOCK_TOKENS, cut_block
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.pipe import Pipe
from tests.support.states import cut_and_join

LOADING = ModelOptions()
N_PROMPT = 700  # more than the window of 512 tokens and the cells of a ubatch
GREEDY = Sampling(temp=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("states") / "tiny.gguf"
    path.write_bytes(build_tiny())
    loaded = Model(path, LOADING)
    yield loaded
    loaded.close()


def make_tokens(model: Model, n_tokens: int, seed: int = 1) -> list[int]:
    """Random text behind a BOS, without a blank line where the reading would pause."""
    rng = random.Random(seed)
    blank = set(model.tokenize("\n\n", control=False))
    words = [token for token in range(300, model.n_vocab) if token not in blank]
    return [model.bos, *rng.choices(words, k=n_tokens - 1)]


def make_engine(model: Model, kv_type: str = "f16", n_ctx: int = 2048) -> LlamaEngine:
    return LlamaEngine(model, ContextOptions(n_ctx, kv_type, n_ubatch=64, n_batch=64), Interrupt())


def make_cache(
    model: Model, folder: Path, *, name: str = "tiny", limit: int = 1 << 30, ram: int = 0
) -> StateCache:
    cache = StateCache(StateOptions(folder, limit, name, name, ram), model, LOADING, "f16")
    # Whether a state pays depends on the speed of the machine: here all of them do.
    cache.is_worthwhile = lambda *_: True  # type: ignore[method-assign]
    return cache


def answer_scores(engine: LlamaEngine, tokens: list[int]) -> list[bytes]:
    """The scores after each of `tokens`, as bytes."""
    found = []
    for token in tokens:
        assert engine.advance(token)
        found.append(engine.context.copy_logits())
    return found


@pytest.mark.slow_except("100-f16", "100-q8_0", "700-f16")
@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("n_tokens", [100, N_PROMPT, 1500])
def test_a_state_gives_the_scores_of_the_context_that_it_was_taken_from(
    model: Model, kv_type: str, n_tokens: int
) -> None:
    tokens = make_tokens(model, n_tokens + 8)
    left, came = (make_engine(model, kv_type) for _ in range(2))
    try:
        for engine in (left, came):
            engine.begin(GREEDY)
        left.evaluate(tokens[:n_tokens])
        state = take_state(left.context)
        assert state is not None
        assert put_state(came.context, state)
        expected = answer_scores(left, tokens[n_tokens:])
        assert answer_scores(came, tokens[n_tokens:]) == expected
    finally:
        left.close_context()
        came.close_context()


@pytest.mark.slow
def test_a_state_of_one_of_several_sequences_fits_every_other(model: Model) -> None:
    tokens = make_tokens(model, N_PROMPT)
    alone = Context(model, ContextOptions(1024, n_ubatch=64, n_batch=64), Interrupt())
    several = Context(
        model, ContextOptions(1024, n_ubatch=64, n_batch=64, n_parallel=3), Interrupt()
    )
    try:
        for start in range(0, N_PROMPT, 64):
            alone.decode_tokens(tokens[start : start + 64])
        state = take_state(alone)
        assert state is not None
        assert put_state(several, fit_to_context(state, N_PROMPT, 3), 2)
        assert several.find_last_position(2) == N_PROMPT - 1
        assert several.can_branch(N_PROMPT, 2)
        again = take_state(several, 2)
        assert again is not None
        assert bytes(make_portable(again, N_PROMPT)) == bytes(state)
    finally:
        alone.close()
        several.close()


@pytest.mark.slow
def test_a_longer_state_begins_with_the_blocks_of_a_shorter_one(model: Model) -> None:
    tokens = make_tokens(model, 900)
    engine = make_engine(model)
    try:
        states = []
        for n_tokens in (N_PROMPT, 900):
            engine.evaluate(tokens[:n_tokens])
            state = take_state(engine.context)
            assert state is not None
            states.append((state, find_tables(state, n_tokens)))
        (short, cut), (long, cut_long) = states
        assert (cut.n_blocks, cut_long.n_blocks) == (N_PROMPT // BLOCK_TOKENS, 900 // BLOCK_TOKENS)
        for index in range(cut.n_blocks):
            assert cut_block(short, cut, index) == cut_block(long, cut_long, index)
        assert cut_and_join(long, cut_long) == long
    finally:
        engine.close_context()


def test_bytes_that_are_no_state_are_refused(model: Model) -> None:
    tokens = make_tokens(model, 300)
    engine = make_engine(model)
    try:
        engine.evaluate(tokens)
        state = take_state(engine.context)
        assert state is not None
        for place in range(0, len(state), 997):
            with pytest.raises(UnknownLayoutError):
                find_tables(state[:place], 300)
        rng = random.Random(0)
        for _ in range(200):
            damaged = bytearray(state[:4096])
            for _ in range(3):
                damaged[rng.randrange(64)] = rng.randrange(256)
            with pytest.raises(UnknownLayoutError):
                find_tables(damaged, 300)
    finally:
        engine.close_context()


def run_prompt(engine: LlamaEngine, prompt: list[int]) -> tuple[int, list[bytes]]:
    """Read a prompt and three tokens of an answer; return what was reused, and the scores."""
    engine.begin(GREEDY)
    read = engine.evaluate(prompt)
    return read.reused, answer_scores(engine, [400, 401, 402])


@pytest.mark.slow
def test_a_new_process_reads_only_what_is_new(model: Model, tmp_path: Path) -> None:
    prompt = make_tokens(model, N_PROMPT)
    engine, again = make_engine(model), make_engine(model)
    try:
        cache = make_cache(model, tmp_path)
        engine.use_states(cache)
        assert run_prompt(engine, prompt)[0] == 0
        engine.end_turn()
        assert cache.finish(20)
        again.use_states(make_cache(model, tmp_path))
        longer = [*prompt, 400, 401, 402, *make_tokens(model, 40, seed=2)[1:]]
        assert run_prompt(again, longer)[0] == N_PROMPT
    finally:
        engine.close_context()
        again.close_context()


@pytest.mark.slow
def test_the_same_prompt_again_reads_its_last_token(model: Model, tmp_path: Path) -> None:
    prompt = make_tokens(model, N_PROMPT)
    for expected in (0, N_PROMPT - 1):
        engine, cache = make_engine(model), make_cache(model, tmp_path)
        engine.use_states(cache)
        assert run_prompt(engine, prompt)[0] == expected
        engine.end_turn()
        assert cache.finish(20)
        engine.close_context()
    assert len(list(tmp_path.glob("*/*.state"))) == 1


@pytest.mark.slow
def test_another_question_about_the_same_document_reads_the_question(
    model: Model, tmp_path: Path
) -> None:
    document = make_tokens(model, N_PROMPT)
    blank = model.tokenize("\n\n", control=False)
    assert len(blank) == 1
    for seed, expected in ((3, 0), (4, N_PROMPT + 1)):
        engine, cache = make_engine(model), make_cache(model, tmp_path)
        engine.use_states(cache)
        question = make_tokens(model, 50, seed)[1:]
        assert run_prompt(engine, [*document, *blank, *question])[0] == expected
        assert cache.finish(20)
        engine.close_context()


def test_states_of_another_model_or_build_are_foreign(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {make_cache(model, tmp_path).namespace, make_cache(model, tmp_path, name="b").namespace}
    monkeypatch.setenv("LLAMA_ATTN_ROT_DISABLE", "1")
    names.add(make_cache(model, tmp_path).namespace)
    monkeypatch.setattr(
        "g4cli.runtime.engine.state_cache.library_fingerprint", lambda: "another build"
    )
    names.add(make_cache(model, tmp_path).namespace)
    assert len(names) == 4


@pytest.mark.slow
def test_a_damaged_state_is_read_again_and_gives_the_same_answer(
    model: Model, tmp_path: Path
) -> None:
    prompt = make_tokens(model, N_PROMPT)
    engine, cache = make_engine(model), make_cache(model, tmp_path)
    engine.use_states(cache)
    _, expected = run_prompt(engine, prompt)
    assert cache.finish(20)
    engine.close_context()
    for path in sorted(tmp_path.glob("*/*.block")):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    again, cache = make_engine(model), make_cache(model, tmp_path)
    again.use_states(cache)
    reused, scores = run_prompt(again, prompt)
    assert cache.finish(20)
    assert reused == 0
    assert scores == expected
    again.close_context()


@pytest.mark.slow
def test_a_state_that_finds_no_memory_is_read_again(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state is copied for a context of several sequences: not at the cost of the answer."""
    prompt, fails = make_tokens(model, 80), Mock(side_effect=MemoryError)
    for fit, n_reused in ((fit_to_context, 0), (fails, 0), (fit_to_context, 79)):
        monkeypatch.setattr("g4cli.runtime.engine.sequence_states.fit_to_context", fit)
        engine, cache = make_engine(model), make_cache(model, tmp_path)
        engine.use_states(cache)
        try:
            assert run_prompt(engine, prompt)[0] == n_reused
            assert cache.finish(20)
        finally:
            engine.close_context()
    assert fails.called


def test_states_in_memory_need_no_disk(model: Model, tmp_path: Path) -> None:
    prompts = [make_tokens(model, N_PROMPT, seed) for seed in (5, 6)]
    engine = make_engine(model)
    cache = make_cache(model, tmp_path / "none", limit=0, ram=64 << 20)
    engine.use_states(cache)
    try:
        reused = []
        for prompt in (*prompts, prompts[0]):
            reused.append(run_prompt(engine, prompt)[0])
            assert cache.finish(20)
        assert reused == [0, 0, N_PROMPT - 1]
        assert not (tmp_path / "none").exists()
    finally:
        engine.close_context()


@pytest.mark.parametrize(("n_tokens", "n_reused"), [(80, 79), (60, 0)])
def test_a_system_prompt_of_a_few_lines_is_saved(
    model: Model, tmp_path: Path, n_tokens: int, n_reused: int
) -> None:
    prompt = make_tokens(model, n_tokens)
    for expected in (0, n_reused):
        engine, cache = make_engine(model), make_cache(model, tmp_path)
        engine.use_states(cache)
        try:
            assert run_prompt(engine, prompt)[0] == expected
            assert cache.finish(20)
        finally:
            engine.close_context()


@pytest.mark.slow
def test_a_retry_of_a_short_prompt_reads_its_last_token(model: Model, tmp_path: Path) -> None:
    """Saving the state of the answer moves the window on, away from the end of the prompt."""
    engine, cache = make_engine(model), make_cache(model, tmp_path)
    engine.use_states(cache)
    prompt = make_tokens(model, 16)
    try:
        run_prompt(engine, prompt)
        answer_scores(engine, make_tokens(model, 2 * MIN_TOKENS)[1:])
        engine.end_turn()
        assert run_prompt(engine, prompt)[0] == len(prompt) - 1
    finally:
        engine.close_context()


def test_an_answer_that_a_server_cancels_is_saved(model: Model, tmp_path: Path) -> None:
    """Not at some point of the next prompt, which comes to its slot."""
    pipe, cache = Pipe(), make_cache(model, tmp_path)
    scheduler = Scheduler(model, ContextOptions(2048, n_ubatch=64, n_parallel=2), pipe)  # type: ignore[arg-type]
    scheduler.use_states(cache)
    prompt = tuple(make_tokens(model, 80))
    endless = Sampling(temp=9, top_k=0, top_p=1, seed=1, ignore_eos=True)
    try:
        scheduler.add_turn(1, RunTurn(prompt, endless, TurnOptions(on_loop="ignore")))
        for _ in range(200):
            scheduler.run_step()
        pipe.cancelled.add(1)
        scheduler.run_step()
        assert not scheduler.has_work
        assert cache.finish(20)
        reply = pipe.told[1][-1].reply
        held = (*prompt, *reply.tokens)
        names = cache.find_states(PromptTokens(model).pack_tokens(held) or b"")
        assert [name.n_tokens for name in names] == [len(held) - 1, len(prompt)]
    finally:
        scheduler.context.close()


class Pictures:
    """Stands in for the encoder: runs of three positions with the digests it was given."""

    def __init__(self, digests: dict[int, bytes]) -> None:
        self.digests = digests

    def find_digest(self, token: int) -> tuple[int, bytes] | None:
        digest = self.digests.get(token)
        return None if digest is None else (3, digest)


def test_a_batch_of_several_prompts_is_measured_once(model: Model, tmp_path: Path) -> None:
    """Each record is of a batch of its own, and the tokens of all are those of the prompts."""
    cache = make_cache(model, tmp_path)
    cache.record_reading = Mock()  # type: ignore[method-assign]
    scheduler = Scheduler(model, ContextOptions(2048, n_parallel=3), Pipe())  # type: ignore[arg-type]
    scheduler.use_states(cache)
    for number in range(3):
        prompt = tuple(make_tokens(model, 300, seed=number))
        scheduler.add_turn(number, RunTurn(prompt, GREEDY, TurnOptions(max_tokens=1)))
    while scheduler.has_work:
        scheduler.run_step()
    scheduler.context.close()
    assert sum(call.args[0] for call in cache.record_reading.call_args_list) == 900


def test_a_picture_counts_by_its_content_and_not_by_its_number(model: Model) -> None:
    def pack(tokens: list[int], digests: dict[int, bytes]) -> bytes | None:
        prompts = PromptTokens(model)
        prompts.media = Pictures(digests)  # type: ignore[assignment]
        return prompts.pack_tokens(tokens)

    cat, dog = b"c" * 16, b"d" * 16
    first = pack([2, -1, -2, -3, 5], {-1: cat})
    assert first is not None
    assert len(first) == 4 * 5
    assert first == pack([2, -7, -8, -9, 5], {-7: cat, -1: dog})
    assert first != pack([2, -1, -2, -3, 5], {-1: dog})
    assert pack([2, -1, -2, -3, 5], {}) is None, "a picture that was forgotten matches nothing"

"""Answers that repeat themselves, with llama.cpp: `retry` cuts them back.

A copy of the bundled model whose output can only be `---` loops from its first token on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from g4cli.chat import Finished, LoopNoticed, Reply, TurnOptions, run_turn
from g4cli.chat import answer as answer_module
from g4cli.loops.detector import LoopDetector
from g4cli.prompt.answer_grammar import AnswerForm, make_grammar
from g4cli.runtime.engine import probabilities
from g4cli.runtime.engine.llama_engine import LlamaEngine, open_engine
from g4cli.runtime.engine.messages import RunTurn
from g4cli.runtime.engine.options import MODEL_DEFAULTS, ContextOptions, Sampling, TokenBias
from g4cli.runtime.engine.scheduler import Scheduler
from tests.support.builders.damage import KINDS, changed
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.pipe import Pipe

GREEDY = Sampling(temp=0.0)
ENDLESS = Sampling(temp=0.0, ignore_eos=True)
OPTIONS = TurnOptions(max_tokens=600)


@pytest.fixture(scope="module")
def dashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    path = tmp_path_factory.mktemp("loops") / "dashes.gguf"
    yield from open_file(path, KINDS["dashes"](build_tiny()))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    yield from open_file(tmp_path_factory.mktemp("loops") / "tiny.gguf", build_tiny())


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    """Return a network without attention: it says one sentence again and again."""
    path = tmp_path_factory.mktemp("loops") / "forgetful.gguf"
    yield from open_file(path, changed("attn_output.weight", np.zeros_like)(build_tiny()))


def open_file(path: Path, data: bytes) -> Iterator[LlamaEngine]:
    path.write_bytes(data)
    with open_engine(
        path,
        model_options=replace(MODEL_DEFAULTS, use_extra_bufts=False),
        context_options=ContextOptions(n_ctx=1024),
    ) as engine:
        yield engine


@pytest.fixture
def certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sentence count as running text that the network is certain of.

    A line ends behind it, and the network would rather end the answer there.
    """
    monkeypatch.setattr(
        answer_module,
        "LoopDetector",
        lambda has_text, digits, _: LoopDetector(has_text, digits, lambda _token: 0),
    )
    monkeypatch.setattr(probabilities, "read_probability", lambda *_: 0.95)


def prompt_of(engine: LlamaEngine) -> list[int]:
    text = "<bos><|turn>user\nWhat is GGUF?<turn|>\n<|turn>model\n"
    return engine.model.tokenize(text, control=True)


def ask(
    engine: LlamaEngine, options: TurnOptions, sampling: Sampling = GREEDY
) -> tuple[Reply, list[LoopNoticed]]:
    engine.begin(sampling)
    *events, last = run_turn(engine, prompt_of(engine), options)
    assert isinstance(last, Finished)
    return last.reply, [event for event in events if isinstance(event, LoopNoticed)]


@pytest.mark.slow
def test_a_second_loop_ends_a_retried_answer(dashes: LlamaEngine) -> None:
    # Without the banned token all others are equally likely, an end of the answer among them.
    reply, notices = ask(dashes, replace(OPTIONS, on_loop="retry"), ENDLESS)
    assert [notice.retried for notice in notices] == [True]
    assert reply.finish_reason == "loop"
    assert reply.retried == notices[0].loop


def test_the_banned_token_does_not_come_next(tiny: LlamaEngine) -> None:
    reply, _ = ask(tiny, OPTIONS)
    assert reply.finish_reason == "stop"
    kept, banned = reply.tokens[:4], reply.tokens[4]
    tiny.begin(GREEDY)
    for _ in range(5):
        assert tiny.continue_without(prompt_of(tiny), kept, banned)
        assert tiny.n_past == len(prompt_of(tiny)) + 4
        assert tiny.sample() != banned


def test_penalties_know_what_is_kept_and_what_is_forced(tiny: LlamaEngine) -> None:
    # Logits are 30 at most: a token is sampled until two of it were penalized.
    bias = (TokenBias(300, 500.0),)
    tiny.begin(Sampling(temp=0, frequency_penalty=300, logit_bias=bias))
    tiny.evaluate(prompt_of(tiny))
    token = tiny.sample()
    assert token == 300
    assert tiny.advance(token)
    assert tiny.advance(token)  # forced, and the one that was sampled last
    assert tiny.sample() != token
    assert tiny.continue_without(prompt_of(tiny), [token], 301)
    assert tiny.sample() == token
    assert tiny.continue_without(prompt_of(tiny), [token, token], 301)
    assert tiny.sample() != token


def test_a_loop_that_the_model_is_certain_of_ends_earlier(
    forgetful: LlamaEngine, request: pytest.FixtureRequest
) -> None:
    forgetful.begin(ENDLESS)
    *_, rows = run_turn(forgetful, prompt_of(forgetful), OPTIONS)
    request.getfixturevalue("certain")
    forgetful.begin(ENDLESS)
    *_, last = run_turn(forgetful, prompt_of(forgetful), OPTIONS)
    assert isinstance(rows, Finished)
    assert isinstance(last, Finished)
    assert rows.reply.completion_tokens == 392
    assert 160 <= last.reply.completion_tokens <= 180


@pytest.mark.usefixtures("certain")
def test_a_server_that_is_certain_of_a_loop_ends_it_earlier(forgetful: LlamaEngine) -> None:
    pipe = Pipe()
    options = ContextOptions(n_ctx=1024)
    scheduler = Scheduler(forgetful.model, options, pipe)  # type: ignore[arg-type]
    scheduler.add_turn(1, RunTurn(tuple(prompt_of(forgetful)), ENDLESS, OPTIONS))
    while scheduler.has_work:
        scheduler.run_step()
    scheduler.context.close()
    done = pipe.told[1][-1]
    assert isinstance(done, Finished)
    assert done.reply.finish_reason == "loop"
    assert 160 <= done.reply.completion_tokens <= 180


def test_the_probability_of_a_token_is_that_among_all(tiny: LlamaEngine) -> None:
    tiny.begin(Sampling(temp=2.0, seed=5))
    tiny.evaluate(prompt_of(tiny))
    token = tiny.sample()
    logprob = tiny.read_probabilities(token, 0).logprob
    assert tiny.read_probability(token) == pytest.approx(math.exp(logprob), rel=1e-4)


def test_a_grammar_leaves_no_probability_to_judge_by(tiny: LlamaEngine) -> None:
    tiny.begin(GREEDY, make_grammar(AnswerForm("gbnf", "root ::= [a-z]+")))
    tiny.evaluate(prompt_of(tiny))
    token = tiny.sample()
    assert tiny.read_probability(token) is None

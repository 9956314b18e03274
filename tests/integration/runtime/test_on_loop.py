"""Answers that repeat themselves, with llama.cpp: `retry` cuts them back.

A copy of the bundled model whose output can only be `---` loops from its first token on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from g4cli.chat import Finished, LoopNoticed, Reply, TurnOptions, run_turn
from g4cli.runtime.engine.llama_engine import LlamaEngine, open_engine
from g4cli.runtime.engine.options import MODEL_DEFAULTS, ContextOptions, Sampling
from g4cli.runtime.engine.text_decoder import TextDecoder
from tests.support.builders.damage import KINDS
from tests.support.builders.tiny_file import build_tiny

GREEDY = Sampling(temp=0.0)
OPTIONS = TurnOptions(max_tokens=600)


@pytest.fixture(scope="module")
def dashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    path = tmp_path_factory.mktemp("loops") / "dashes.gguf"
    yield from open_file(path, KINDS["dashes"](build_tiny()))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    yield from open_file(tmp_path_factory.mktemp("loops") / "tiny.gguf", build_tiny())


def open_file(path: Path, data: bytes) -> Iterator[LlamaEngine]:
    path.write_bytes(data)
    with open_engine(
        path,
        model_options=replace(MODEL_DEFAULTS, use_extra_bufts=False),
        context_options=lambda _: ContextOptions(n_ctx=1024),
    ) as engine:
        yield engine


def prompt_of(engine: LlamaEngine) -> list[int]:
    text = "<bos><|turn>user\nWhat is GGUF?<turn|>\n<|turn>model\n"
    return engine.model.tokenize(text, control=True)


def ask(engine: LlamaEngine, options: TurnOptions) -> tuple[Reply, list[LoopNoticed]]:
    engine.begin(GREEDY)
    *events, last = run_turn(engine, prompt_of(engine), options, TextDecoder())
    assert isinstance(last, Finished)
    return last.reply, [event for event in events if isinstance(event, LoopNoticed)]


@pytest.mark.slow
def test_a_second_loop_ends_a_retried_answer(dashes: LlamaEngine) -> None:
    reply, notices = ask(dashes, replace(OPTIONS, on_loop="retry"))
    assert [notice.retried for notice in notices] == [True]
    assert reply.finish_reason == "loop"
    assert reply.retried == notices[0].loop


def test_the_banned_token_does_not_come_next(tiny: LlamaEngine) -> None:
    reply, _ = ask(tiny, OPTIONS)
    assert reply.finish_reason == "stop"
    kept, banned = reply.tokens[:4], reply.tokens[4]
    tiny.begin(GREEDY)
    for _ in range(5):
        assert tiny.continue_without([*prompt_of(tiny), *kept], banned)
        assert tiny.n_past == len(prompt_of(tiny)) + 4
        assert tiny.sample() != banned

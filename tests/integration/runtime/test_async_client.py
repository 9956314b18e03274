"""The model behind an event loop: many requests at once, slow readers, and a worker that dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from g4cli.chat import Finished, TurnOptions
from g4cli.core.errors import BadFile, ContextFull, G4Error, QueueFull, ReaderTooSlow, UsageError
from g4cli.prompt.messages import Part
from g4cli.prompt.reply import AnswerText, SampledToken
from g4cli.runtime.engine import async_worker
from g4cli.runtime.engine.async_client import AsyncEngine
from g4cli.runtime.engine.drafting import DraftChoice
from g4cli.runtime.engine.messages import Open, RunTurn
from g4cli.runtime.engine.options import ContextOptions, ModelOptions, Sampling, TokenBias
from tests.support.builders.gguf import F16, build_gguf
from tests.support.builders.media_files import write
from tests.support.builders.tiny_file import build_tiny, tiny_parts

QUESTION = [Part("<|turn>user\nWhat is GGUF?<turn|>\n<|turn>model\n", control=True)]
GREEDY = Sampling(temp=0)
ENDLESS = Sampling(temp=9, top_k=0, top_p=1, seed=1, ignore_eos=True)
NO_END = TurnOptions(on_loop="ignore")
OFF = DraftChoice("off", "not asked for")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("async") / "tiny.gguf", build_tiny())


Use = Callable[[AsyncEngine, tuple[int, ...]], Coroutine[Any, Any, None]]


def run_with(tiny: Path, use: Use, *, n_queue: int = 64, **context: Any) -> None:
    """Run `use` with an engine and the tokens of the question."""

    async def main() -> None:
        request = Open(tiny, ModelOptions(), ContextOptions(2048, **context), OFF)
        async with await AsyncEngine.start(request, n_queue=n_queue) as engine:
            await asyncio.wait_for(use(engine, await engine.tokens_of(QUESTION)), 60)

    asyncio.run(main())


async def finish(engine: AsyncEngine, request: RunTurn) -> tuple[list[Any], Finished]:
    events = [event async for event in engine.run_turn(request)]
    assert isinstance(events[-1], Finished)
    return events, events[-1]


def has_worker(engine: AsyncEngine) -> bool:
    return engine._worker is not None and not engine._worker.has_ended


@pytest.mark.skipif(sys.platform != "linux", reason="the environment of a process in /proc")
def test_the_weights_are_in_large_pages_where_the_system_has_them(tiny: Path) -> None:
    async def use(engine: AsyncEngine, _prompt: tuple[int, ...]) -> None:
        variables = Path(f"/proc/{engine.pid}/environ").read_bytes().split(b"\0")
        assert b"GLIBC_TUNABLES=glibc.malloc.hugetlb=1" in variables

    run_with(tiny, use)


@pytest.mark.parametrize("n_parallel", [1, 3])
class TestTurns:
    def test_four_at_once_get_their_own_answers(self, tiny: Path, n_parallel: int) -> None:
        async def use(engine: AsyncEngine, prompt: tuple[int, ...]) -> None:
            limits = [TurnOptions(max_tokens=n) for n in (3, 5, 7, 9)]
            whole = (await finish(engine, RunTurn(prompt, GREEDY, NO_END)))[1].reply.tokens
            turns = [finish(engine, RunTurn(prompt, GREEDY, limit)) for limit in limits]
            replies = [done.reply for _, done in await asyncio.gather(*turns)]
            assert [reply.tokens for reply in replies] == [whole[:n] for n in (3, 5, 7, 9)]
            assert {reply.finish_reason for reply in replies} == {"length"}
            assert engine.active_turns == ()

        run_with(tiny, use, n_parallel=n_parallel)

    @pytest.mark.slow
    def test_other_requests_are_answered_during_a_turn(self, tiny: Path, n_parallel: int) -> None:
        async def use(engine: AsyncEngine, prompt: tuple[int, ...]) -> None:
            async with aclosing(engine.run_turn(RunTurn(prompt, ENDLESS, NO_END))) as events:
                await anext(events)
                assert await engine.text_of(prompt[1:]) == QUESTION[0].text
                assert [turn.slot for turn in engine.active_turns] == [0]

        run_with(tiny, use, n_parallel=n_parallel)

    @pytest.mark.slow
    def test_a_closed_iterator_cancels_its_turn(self, tiny: Path, n_parallel: int) -> None:
        async def use(engine: AsyncEngine, prompt: tuple[int, ...]) -> None:
            for _ in range(3):
                async with aclosing(engine.run_turn(RunTurn(prompt, ENDLESS, NO_END))) as events:
                    await anext(events)
            _, done = await finish(engine, RunTurn(prompt, GREEDY, NO_END))
            assert done.reply.finish_reason == "stop"

        run_with(tiny, use, n_parallel=n_parallel)

    @pytest.mark.slow
    def test_a_full_queue_refuses(self, tiny: Path, n_parallel: int) -> None:
        async def use(engine: AsyncEngine, prompt: tuple[int, ...]) -> None:
            with ExitStack() as taken:
                for _ in range(n_parallel + 1):
                    taken.enter_context(engine.turn_places.take())
                assert engine.n_waiting == 1
                with pytest.raises(QueueFull), engine.turn_places.take():
                    pass
                with engine.question_places.take():
                    assert await engine.tokens_of(QUESTION) == prompt
            with engine.turn_places.take():
                assert engine.n_waiting == 0

        run_with(tiny, use, n_queue=1, n_parallel=n_parallel)

    @pytest.mark.slow
    def test_a_flood_of_long_texts_does_not_stop_answers(self, tiny: Path, n_parallel: int) -> None:
        text = "".join(chr(97 + i * i % 26) for i in range(1 << 20))

        async def use(engine: AsyncEngine, prompt: tuple[int, ...]) -> None:
            parts = [Part(text)]
            flood = [
                asyncio.create_task(engine.tokens_of(parts, most_tokens=len(text)))
                for _ in range(20)
            ]
            await asyncio.sleep(0)
            _, done = await finish(engine, RunTurn(prompt, GREEDY, NO_END))
            assert done.reply.finish_reason == "stop"
            assert await engine.tokens_of(QUESTION) == prompt, "a short question comes first"
            assert not all(task.done() for task in flood)
            for task in flood:
                task.cancel()

        run_with(tiny, use, n_parallel=n_parallel)

    @pytest.mark.slow
    def test_a_reader_that_stops_is_cancelled_and_stalls_nobody(
        self, tiny: Path, n_parallel: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(async_worker, "MAX_WAITING", 50)

        async def use(engine: AsyncEngine, prompt: tuple[int, ...]) -> None:
            slow = engine.run_turn(RunTurn(prompt, ENDLESS, NO_END))
            await anext(slow)
            for _ in range(3):
                _, done = await finish(engine, RunTurn(prompt, GREEDY, NO_END))
                assert done.reply.finish_reason == "stop"
            with pytest.raises(ReaderTooSlow):
                [event async for event in slow]

        run_with(tiny, use, n_parallel=n_parallel)

    def test_a_killed_worker_fails_what_runs_and_is_started_once(
        self, tiny: Path, n_parallel: int
    ) -> None:
        async def use(engine: AsyncEngine, prompt: tuple[int, ...]) -> None:
            turns = [engine.run_turn(RunTurn(prompt, ENDLESS, NO_END)) for _ in range(4)]
            await anext(turns[0])
            rest = [asyncio.create_task(anext(turn)) for turn in turns[1:]]
            await asyncio.sleep(0)
            os.kill(engine.pid, signal.SIGKILL)
            for turn in turns[:1]:
                with pytest.raises(G4Error, match="ended"):
                    [event async for event in turn]
            results = await asyncio.gather(*rest, return_exceptions=True)
            for turn, result in zip(turns[1:], results, strict=True):
                if not isinstance(result, G4Error):  # it ran already
                    with pytest.raises(G4Error, match="ended"):
                        [event async for event in turn]
            again = [finish(engine, RunTurn(prompt, GREEDY, NO_END)) for _ in range(3)]
            assert {done.reply.finish_reason for _, done in await asyncio.gather(*again)} == {
                "stop"
            }
            assert engine.n_starts == 2

        run_with(tiny, use, n_parallel=n_parallel)

    def test_a_slow_reader_outlives_its_worker(self, tiny: Path, n_parallel: int) -> None:
        """The next worker counts its requests anew: both turns have the same number."""

        async def use(engine: AsyncEngine, _: tuple[int, ...]) -> None:
            os.kill(engine.pid, signal.SIGKILL)
            while has_worker(engine):
                await asyncio.sleep(0.01)
            turns = []
            for prompt in ((2, 105), (2, 106)):
                turns.append(engine.run_turn(RunTurn(prompt, ENDLESS, NO_END)))
                await anext(turns[-1])
                os.kill(engine.pid, signal.SIGKILL)
                while has_worker(engine):
                    await asyncio.sleep(0.01)
            first, second = engine.active_turns
            assert first.number == second.number
            for turn in turns:
                with pytest.raises(G4Error, match="ended"):
                    [event async for event in turn]
            assert not engine.active_turns

        run_with(tiny, use, n_parallel=n_parallel)


class TestOptions:
    @pytest.mark.slow
    def test_probabilities(self, tiny: Path) -> None:
        async def use(engine: AsyncEngine, prompt: tuple[int, ...]) -> None:
            options = TurnOptions(max_tokens=8, n_probs=3)
            events, done = await finish(engine, RunTurn(prompt, GREEDY, options))
            told = [t for e in events if isinstance(e, AnswerText) for t in e.tokens]
            assert [token.id for token in told] == list(done.reply.tokens)
            assert b"".join(token.piece for token in told).decode() == done.reply.text
            for token in told:
                assert isinstance(token, SampledToken)
                assert [top.logprob for top in token.top] == sorted(
                    (top.logprob for top in token.top), reverse=True
                )
                assert token.top[0].id == token.id
                assert token.top[0].logprob == token.logprob <= 0

        run_with(tiny, use)

    @pytest.mark.slow
    def test_stop_strings_raw_answers_and_biases(self, tiny: Path) -> None:
        async def use(engine: AsyncEngine, prompt: tuple[int, ...]) -> None:
            async def ask(sampling: Sampling = GREEDY, **options: Any) -> Any:
                turn = RunTurn(prompt, sampling, replace(NO_END, **options))
                return (await finish(engine, turn))[1].reply

            plain = await ask()
            assert plain.text.startswith("GGUF is the file format of llama.cpp")
            stopped = await ask(stop=("llama", "file form"))
            assert stopped.text == "GGUF is the "
            assert (stopped.finish_reason, stopped.stop_string) == ("stop", "file form")
            assert (await ask(raw=True)).text == plain.text
            forbidden = replace(GREEDY, logit_bias=(TokenBias(plain.tokens[0], -float("inf")),))
            assert (await ask(forbidden, max_tokens=1)).tokens != plain.tokens[:1]
            no_end = await ask(replace(GREEDY, ignore_eos=True), max_tokens=200)
            assert (no_end.finish_reason, len(no_end.tokens)) == ("length", 200)
            penalized = await ask(replace(GREEDY, presence_penalty=50.0, frequency_penalty=50.0))
            assert penalized.tokens != plain.tokens

        run_with(tiny, use)

    @pytest.mark.slow
    def test_a_grammar_that_is_none_fails_its_request_alone(self, tiny: Path) -> None:
        async def use(engine: AsyncEngine, prompt: tuple[int, ...]) -> None:
            with pytest.raises(UsageError, match="grammar"):
                await finish(engine, RunTurn(prompt, GREEDY, NO_END, "root ::= ("))
            assert (await finish(engine, RunTurn(prompt, GREEDY, NO_END)))[1].reply.text

        run_with(tiny, use)


@pytest.mark.slow
def test_a_file_that_ends_the_worker_is_blamed(tmp_path: Path) -> None:
    keys, tensors = tiny_parts()
    others = [tensor for tensor in tensors if tensor[0] != "rope_freqs.weight"]
    freqs = ("rope_freqs.weight", F16, [64], np.ones(64, np.float16).tobytes())
    fatal = write(tmp_path / "fatal.gguf", build_gguf(keys, [*others, freqs]))

    async def main() -> None:
        with pytest.raises(BadFile, match="crashed while loading this file"):
            await AsyncEngine.start(Open(fatal, ModelOptions(), ContextOptions(2048), OFF))

    asyncio.run(main())


class TestLongTexts:
    @pytest.mark.slow
    def test_what_cannot_fit_is_refused_before_it_is_tokenized(
        self, tiny: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        ask = AsyncEngine.ask_worker

        async def watched(self: AsyncEngine, message: Any) -> Any:
            asked.append(type(message).__name__)
            return await ask(self, message)

        monkeypatch.setattr(AsyncEngine, "ask_worker", watched)

        async def use(engine: AsyncEngine, _: tuple[int, ...]) -> None:
            asked.clear()
            # The longest tokens there are: no text has fewer tokens for its bytes.
            for text, what in ((" " * 500_000, "at least"), ("\u00e9" * 3000, "the prompt has")):
                with pytest.raises(ContextFull, match=what):
                    await engine.tokens_of([Part(text)])
            assert asked == ["FindLongestPiece", "Tokenize"]
            n_spaces = len(await engine.tokens_of([Part(" " * 20_000)]))
            assert engine._longest_piece is not None
            assert n_spaces >= 20_000 / engine._longest_piece

        run_with(tiny, use)

    @pytest.mark.slow
    def test_a_prompt_of_many_parts_is_sent_piece_by_piece(self, tiny: Path) -> None:
        parts = [Part("<|turn>" if n % 2 else f"{n}", control=n % 2 == 1) for n in range(600)]

        async def use(engine: AsyncEngine, _: tuple[int, ...]) -> None:
            alone = [await engine.tokens_of([part], with_bos=False) for part in parts[:40]]
            whole = await engine.tokens_of(parts)
            bos = whole[0]
            assert whole[1 : 1 + sum(map(len, alone))] == sum(alone, ())
            assert whole.count(bos) == 1
            with pytest.raises(ContextFull, match="the prompt has at least"):
                await engine.tokens_of(parts, most_tokens=len(whole) - 1)

        run_with(tiny, use)

"""Many turns in one context: answers as alone, fair shares, prompts in pieces, slots, ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from g4cli.chat import DraftStats, Finished, PromptRead, TurnOptions
from g4cli.core.errors import ContextFull, RuntimeFailed, UsageError
from g4cli.prompt.answer_grammar import AnswerForm, make_grammar
from g4cli.prompt.messages import Media, Message, Part
from g4cli.prompt.render import PromptStyle, render
from g4cli.prompt.reply import AnswerText
from g4cli.runtime.engine import scheduler as scheduler_module
from g4cli.runtime.engine import slot as slot_module
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.drafting import N_OUTPUTS
from g4cli.runtime.engine.llama_engine import open_engine
from g4cli.runtime.engine.media import MediaEncoder
from g4cli.runtime.engine.messages import RunTurn
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import (
    ContextOptions,
    MediaOptions,
    ModelOptions,
    Sampling,
)
from g4cli.runtime.engine.prompt_pacer import PAUSE_S, PromptPacer
from g4cli.runtime.engine.scheduler import Scheduler
from g4cli.runtime.engine.slot import choose_slot
from tests.support.builders.media_files import picture, png, write
from tests.support.builders.tiny_file import build_tiny, build_tiny_q8
from tests.support.fakes.pipe import Pipe
from tests.support.paths import TESTS

GREEDY = Sampling(temp=0)
ENDLESS = Sampling(temp=9, top_k=0, top_p=1, seed=1, ignore_eos=True)
NO_END = TurnOptions(on_loop="ignore")
QUESTIONS = (
    "What is GGUF?", "Who are you?", "What is a context?", "Tell me about llama.cpp.",
    "What is 2 + 3?", "Write a haiku.",
)  # fmt: skip
N_PARALLEL = 4


class Bench:
    """A scheduler in this process, with what it tells and the batches that it evaluates."""

    def __init__(self, model: Model, options: ContextOptions) -> None:
        self.pipe = Pipe()
        self.scheduler = Scheduler(model, options, self.pipe)  # type: ignore[arg-type]
        self.model, self._number = model, 0
        self.batches: list[dict[int, int]] = []  # tokens by sequence
        self._watch(self.scheduler.context)

    def _watch(self, context: Context) -> None:
        decode = context.decode_batch

        def watched(batch: Any) -> bool:
            counts: dict[int, int] = {}
            for i in range(batch.n_tokens):
                seq = batch.seq_id[i][0]
                counts[seq] = counts.get(seq, 0) + 1
            self.batches.append(counts)
            return decode(batch)

        context.decode_batch = watched  # type: ignore[method-assign]

    def close(self) -> None:
        """Free all but the model."""
        self.scheduler.masks.close()
        if self.scheduler.prompts.media is not None:
            self.scheduler.prompts.media.close()
        self.scheduler.context.close()

    def prompt(self, question: str) -> tuple[int, ...]:
        parts = render([Message("user", question)], PromptStyle())
        return tuple(self.scheduler.prompts.tokens_of(parts))

    def long_prompt(self, n_tokens: int) -> tuple[int, ...]:
        piece = self.prompt("la la la, says the song")
        return (piece[0], *(piece[1:] * (n_tokens // len(piece) + 1)))[:n_tokens]

    def add(
        self,
        prompt: tuple[int, ...],
        sampling: Sampling = GREEDY,
        options: TurnOptions = NO_END,
        grammar: str | None = None,
    ) -> int:
        self._number += 1
        self.scheduler.add_turn(self._number, RunTurn(prompt, sampling, options, grammar))
        return self._number

    def run(self, *, steps: int = 5000, until: Callable[[], bool] = lambda: False) -> None:
        """Run until nothing is left to do, or `until` is true."""
        for _ in range(steps):
            if not self.scheduler.has_work or until():
                return
            self.scheduler.run_step()
        raise AssertionError("there is no end to it")

    def reply(self, number: int) -> Any:
        assert number in self.pipe.done, self.pipe.failed.get(number)
        done = self.pipe.told[number][-1]
        assert isinstance(done, Finished)
        return done.reply

    def ask(self, prompt: tuple[int, ...], **changes: Any) -> Any:
        number = self.add(prompt, **changes)
        self.run()
        return self.reply(number)

    def forget_prompts(self) -> None:
        """Let the next prompts be evaluated afresh."""
        for slot in self.scheduler._slots:
            slot.sequence.truncate(0)

    def n_told(self, number: int) -> int:
        return sum(isinstance(event, AnswerText) for event in self.pipe.told.get(number, ()))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("scheduler") / "tiny.gguf", build_tiny())


@pytest.fixture(scope="module")
def model(tiny: Path) -> Iterator[Model]:
    model = Model(tiny)
    yield model
    model.close()


@pytest.fixture(scope="module")
def q8_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    model = Model(write(tmp_path_factory.mktemp("drafting") / "q8.gguf", build_tiny_q8()))
    yield model
    model.close()


@pytest.fixture
def bench(model: Model) -> Iterator[Bench]:
    bench = Bench(model, ContextOptions(2048, n_parallel=N_PARALLEL))
    yield bench
    bench.close()


class TestAnswers:
    def test_greedy_answers_are_the_same_alone_and_among_others(
        self, bench: Bench, tiny: Path
    ) -> None:
        prompts = [bench.prompt(question) for question in QUESTIONS]
        alone = [bench.ask(prompt).tokens for prompt in prompts]
        numbers = [bench.add(prompt) for prompt in prompts]
        bench.run()
        assert [bench.reply(number).tokens for number in numbers] == alone
        assert max(len(batch) for batch in bench.batches) == N_PARALLEL
        with open_engine(
            tiny, model_options=ModelOptions(), context_options=ContextOptions(2048)
        ) as engine:
            for prompt, tokens in zip(prompts, alone, strict=True):
                engine.evaluate(prompt)
                engine.begin(GREEDY)
                assert engine.sample() == tokens[0]

    def test_what_a_slot_holds_is_used_again_and_answers_the_same(self, bench: Bench) -> None:
        first = bench.prompt("What is GGUF?")
        fresh = bench.ask(first)
        assert fresh.reused_tokens == 0
        longer = (*first, *fresh.tokens, *bench.prompt("And who are you?")[1:])
        again = bench.ask(longer)
        assert again.reused_tokens == len(first) + len(fresh.tokens)
        bench.forget_prompts()
        afresh = bench.ask(longer)
        assert (afresh.reused_tokens, afresh.tokens) == (0, again.tokens)

    @pytest.mark.slow
    def test_a_return_to_what_the_window_has_left_restores_a_checkpoint(self, bench: Bench) -> None:
        """An edit far back needs the checkpoint."""
        start = bench.long_prompt(bench.model.n_swa + 100)
        bench.ask(start, options=replace(NO_END, max_tokens=1))
        far = replace(NO_END, max_tokens=900)
        assert bench.ask(start, sampling=ENDLESS, options=far).finish_reason == "length"
        edit = (*start, *bench.prompt("What is GGUF?")[1:])
        edited = bench.ask(edit)
        assert edited.reused_tokens == len(start)
        bench.forget_prompts()
        assert bench.ask(edit).tokens == edited.tokens

    @pytest.mark.slow
    def test_an_image_among_others(self, model: Model, tmp_path: Path) -> None:
        bench = Bench(model, ContextOptions(2048, n_parallel=2))
        bench.scheduler.attach_media(MediaOptions(TESTS / "golden/tiny_mmproj.gguf"))
        bench._watch(bench.scheduler.context)
        photo = Media("image", write(tmp_path / "p.png", png(picture(480, 336))))
        parts = [Part("Look: "), Part("", media=photo), Part(" What is it?")]
        prompt = tuple(bench.scheduler.prompts.tokens_of(parts))
        options = replace(NO_END, max_tokens=20)
        alone = bench.ask(prompt, options=options)
        other = bench.add(bench.prompt("Who are you?"), ENDLESS, replace(NO_END, max_tokens=60))
        bench.run(until=lambda: bench.n_told(other) > 5)
        among = bench.add(prompt[:-3] + prompt[-2:], options=options)
        again = bench.add(prompt, options=options)
        bench.run()
        assert bench.reply(again).tokens == alone.tokens
        assert bench.reply(among).reused_tokens == len(prompt) - 3
        bench.scheduler.prompts.require_media().close()
        bench.scheduler.context.close()


class TestEncoder:
    """Images are encoded while others answer."""

    @pytest.fixture
    def bench(self, model: Model) -> Iterator[Bench]:
        bench = Bench(model, ContextOptions(2048, n_parallel=2))
        bench.scheduler.attach_media(MediaOptions(TESTS / "golden/tiny_mmproj.gguf"))
        yield bench
        bench.close()

    def image_prompt(self, bench: Bench, folder: Path) -> tuple[int, ...]:
        photo = Media("image", write(folder / "p.png", png(picture(480, 336))))
        parts = [Part("Look: "), Part("", media=photo), Part(" What is it?")]
        return tuple(bench.scheduler.prompts.tokens_of(parts))

    def hold_encoder(self, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
        """Let the encoder stand still until the event is set."""
        go_on = threading.Event()
        encode = MediaEncoder.compute_embeddings

        def wait_and_encode(self: MediaEncoder, run: Any) -> Any:
            assert go_on.wait(60)
            return encode(self, run)

        monkeypatch.setattr(MediaEncoder, "compute_embeddings", wait_and_encode)
        return go_on

    @pytest.mark.slow
    def test_others_answer_meanwhile(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prompt = self.image_prompt(bench, tmp_path)
        options = replace(NO_END, max_tokens=20)
        go_on = self.hold_encoder(monkeypatch)
        waiting = bench.add(prompt, options=options)
        others = [bench.add(bench.prompt(question), options=options) for question in QUESTIONS]
        bench.run(until=lambda: set(others) <= set(bench.pipe.done))
        assert waiting not in bench.pipe.done
        go_on.set()
        bench.run()
        among = bench.reply(waiting).tokens
        bench.forget_prompts()
        assert bench.ask(prompt, options=options).tokens == among

    def test_whoever_goes_away_meanwhile_frees_the_slot(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_on = self.hold_encoder(monkeypatch)
        prompt = self.image_prompt(bench, tmp_path)
        gone = bench.add(prompt)
        bench.scheduler.run_step()
        bench.pipe.cancelled.add(gone)
        bench.scheduler.run_step()
        assert gone in bench.pipe.done
        go_on.set()
        assert bench.ask(prompt, options=replace(NO_END, max_tokens=3)).text

    def test_an_error_of_the_encoder_ends_its_turn_alone(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prompt = self.image_prompt(bench, tmp_path)
        other = bench.add(bench.prompt("What is GGUF?"))

        def fail(*_: Any) -> Any:
            raise RuntimeFailed("the encoder failed")

        for owner, name in ((MediaEncoder, "compute_embeddings"), (MediaEncoder, "decode")):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, fail)
                broken = bench.add(prompt)
                bench.run(until=lambda broken=broken: broken in bench.pipe.failed)  # type: ignore[misc]
            assert str(bench.pipe.failed[broken]) == "the encoder failed"
        bench.run()
        assert bench.reply(other).finish_reason == "stop"
        assert bench.ask(prompt, options=replace(NO_END, max_tokens=3)).text


class TestFairness:
    @pytest.mark.slow
    def test_a_long_prompt_takes_turns_with_running_answers(self, bench: Bench) -> None:
        answering = [bench.add(bench.prompt("Who are you?"), ENDLESS) for _ in range(2)]
        bench.run(until=lambda: all(bench.n_told(n) > 1 for n in answering))
        bench.scheduler.pacer.count_tokens = lambda **_: 64  # type: ignore[method-assign]
        prompt = bench.long_prompt(1000)
        long = bench.add(prompt)
        bench.batches.clear()
        bench.run(until=lambda: bench.n_told(long) > 0)
        # Between two pieces every answer gets a token.
        piece, tokens = {2: 64}, {0: 1, 1: 1}
        assert bench.batches == [piece, tokens] * (len(prompt) // 64) + [{2: len(prompt) % 64}]
        bench.pipe.cancelled |= set(answering)
        bench.run()

    @pytest.mark.slow
    def test_a_short_prompt_does_not_wait_for_a_long_one(self, bench: Bench) -> None:
        bench.scheduler.pacer.count_tokens = lambda **_: 64  # type: ignore[method-assign]
        long = bench.add(bench.long_prompt(1000))
        short = bench.add(bench.prompt("Who are you?"), options=replace(NO_END, max_tokens=3))
        bench.run(until=lambda: short in bench.pipe.done)
        assert long not in bench.pipe.done
        assert all(sum(batch.values()) <= 64 + 1 for batch in bench.batches)
        bench.run()

    @pytest.mark.slow
    def test_answers_get_equal_shares_and_slots_go_to_the_first(self, bench: Bench) -> None:
        options = replace(NO_END, max_tokens=40)
        numbers = [bench.add(bench.prompt("Who are you?"), ENDLESS, options) for _ in range(9)]
        bench.run(until=lambda: bench.n_told(1) > 20)
        assert bench.pipe.begun == numbers[:N_PARALLEL]
        counts = [len(bench.scheduler._slots[i].sequence.tokens) for i in range(N_PARALLEL)]
        assert max(counts) - min(counts) <= 1
        bench.run()
        assert bench.pipe.begun == numbers
        assert {len(bench.reply(number).tokens) for number in numbers} == {40}

    def test_pieces_follow_the_speed_of_the_machine(self) -> None:
        pacer = PromptPacer(512)
        assert pacer.count_tokens(others_answer=False) == 512
        assert pacer.count_tokens(others_answer=True) == 16
        pacer.record_batch(100, 0.1)
        assert pacer.count_tokens(others_answer=True) == 1000 * PAUSE_S // 16 * 16
        pacer.record_batch(1, 10.0)  # the end of a prompt: says nothing of the speed
        assert pacer.count_tokens(others_answer=True) == 1000 * PAUSE_S // 16 * 16
        for _ in range(20):
            pacer.record_batch(512, 0.01)
        assert pacer.count_tokens(others_answer=True) == 512


class TestFillers:
    @pytest.mark.slow
    def test_idle_sequences_between_running_ones_are_filled_and_keep_their_tokens(
        self, bench: Bench
    ) -> None:
        prompts = [bench.prompt(question) for question in QUESTIONS[:3]]
        first = bench.ask(prompts[1])  # in slot 0
        ends = [replace(NO_END, max_tokens=n) for n in (300, 20, 300)]
        numbers = [bench.add(bench.long_prompt(20 + n), ENDLESS, end) for n, end in enumerate(ends)]
        bench.run(until=lambda: numbers[1] in bench.pipe.done)
        idle = bench.scheduler._slots[2]
        held = list(idle.sequence.tokens)
        assert idle.turn is None
        bench.batches.clear()
        bench.run()
        assert {tuple(sorted(batch)) for batch in bench.batches} == {(1, 2, 3)}
        assert idle.sequence.tokens == held
        # What it holds still answers as if read afresh.
        longer = (*held, *prompts[2][1:])
        again = bench.ask(longer)
        assert again.reused_tokens == len(held)
        bench.forget_prompts()
        assert bench.ask(longer).tokens == again.tokens
        assert first.tokens


class TestChooseSlot:
    """Among sequences 0 to 7, of which some run; each holds something, the last one least."""

    @staticmethod
    def choose(running: set[int], empty: set[int] = frozenset(), holds: int = -1) -> int:  # type: ignore[assignment]
        slots: list[Any] = []
        for number in range(8):
            tokens = [] if number in empty else [5] * 10
            reusable = 9 if number == holds else 0
            sequence = SimpleNamespace(
                number=number, tokens=tokens, count_reusable=lambda _, n=reusable: n
            )
            turn = object() if number in running else None
            slots.append(SimpleNamespace(sequence=sequence, turn=turn, used_at=8 - number))
        chosen: int = choose_slot(slots, (5,) * 10).sequence.number
        return chosen

    def test_what_is_held_of_the_prompt_counts_first(self) -> None:
        assert self.choose({0, 1}, empty={2}, holds=6) == 6

    def test_the_least_recently_used_one_while_nothing_runs(self) -> None:
        assert self.choose(set()) == 7
        assert self.choose(set(), empty={3}) == 3

    def test_turns_stay_near_each_other(self) -> None:
        """A gap of more than three would give each side batches of its own."""
        assert self.choose({0}) == 1
        assert self.choose({0, 2}) == 1
        assert self.choose({0, 1}, empty={7}) == 2
        assert self.choose({0, 1}, empty={4}) == 4
        assert self.choose({3, 4}) == 5  # 2 was used later


class TestEnds:
    def test_a_cancelled_turn_frees_its_slot_before_the_next_batch(self, bench: Bench) -> None:
        numbers = [bench.add(bench.prompt("Who are you?"), ENDLESS) for _ in range(N_PARALLEL)]
        waiting = bench.add(bench.prompt("What is GGUF?"))
        gone = bench.add(bench.prompt("What is GGUF?"))
        bench.run(until=lambda: bench.n_told(numbers[0]) > 3)
        bench.pipe.cancelled |= {numbers[1], gone}
        n_batches = len(bench.batches)
        bench.scheduler.run_step()
        assert len(bench.batches) == n_batches + 1
        assert set(bench.pipe.done) == {numbers[1], gone}
        assert waiting in bench.pipe.begun
        assert gone not in bench.pipe.begun
        bench.pipe.cancelled |= set(numbers)
        bench.run()
        assert bench.reply(waiting).finish_reason == "stop"

    @pytest.mark.slow
    def test_an_abort_leaves_the_sequences_usable(self, bench: Bench) -> None:
        prompt = bench.long_prompt(1500)
        number = bench.add(prompt)
        bench.scheduler.run_step()
        bench.pipe.interrupt.set()
        bench.scheduler.run_step()
        bench.pipe.interrupt.clear()
        bench.pipe.cancelled.add(number)
        bench.run()
        assert bench.reply(number).finish_reason == "interrupted"
        again = bench.ask(prompt)
        assert 0 < again.reused_tokens < len(prompt)
        bench.forget_prompts()
        assert bench.ask(prompt).tokens == again.tokens

    @pytest.mark.slow
    def test_errors_of_one_turn_are_its_own(self, bench: Bench) -> None:
        other = bench.add(bench.prompt("What is GGUF?"))
        full = bench.add(tuple(range(200, 200 + 2048)))
        bad = bench.add(
            bench.prompt("Who are you?"), grammar=make_grammar(AnswerForm("regex", "("))
        )
        stuck = bench.add(
            bench.prompt("Who are you?"),
            grammar=make_grammar(AnswerForm("regex", "x")),
            sampling=replace(GREEDY, ignore_eos=True),
        )
        bench.run()
        assert isinstance(bench.pipe.failed[full], ContextFull)
        assert isinstance(bench.pipe.failed[bad], UsageError)
        assert isinstance(bench.pipe.failed[stuck], RuntimeFailed)
        assert bench.reply(other).finish_reason == "stop"

    @pytest.mark.parametrize("where", ["Answer", "sample_token", "end"])
    def test_a_bug_in_one_turn_ends_no_other(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        other = bench.add(bench.prompt("What is GGUF?"))
        bench.run(until=lambda: bench.n_told(other) > 0)
        broken = bench.add(bench.prompt("Who are you?"), ENDLESS)

        def fail(*_: Any, **__: Any) -> Any:
            raise ValueError("a bug")

        with monkeypatch.context() as patch:
            if where == "Answer":
                patch.setattr(slot_module, where, fail)
            bench.scheduler.run_step()
        if where != "Answer":
            (turn,) = (s.turn for s in bench.scheduler._slots if s.turn and s.turn.number == broken)
            monkeypatch.setattr(turn, where, fail)
        if where == "end":
            bench.pipe.cancelled.add(broken)
        bench.run()
        assert str(bench.pipe.failed[broken]) == "a bug"
        assert bench.reply(other).finish_reason == "stop"
        assert bench.ask(bench.prompt("Who are you?")).text

    def test_a_failed_batch_fails_what_runs_and_empties_its_slots(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        numbers = [bench.add(bench.prompt(question)) for question in QUESTIONS]
        bench.run(until=lambda: len(bench.batches) > 3)

        def fail(_batch: Any) -> bool:
            raise RuntimeFailed("llama.cpp failed to evaluate (code -3)")

        with monkeypatch.context() as patch:
            patch.setattr(bench.scheduler.context, "decode_batch", fail)
            bench.scheduler.run_step()
        assert set(bench.pipe.failed) == set(numbers[:N_PARALLEL])
        bench.run()
        assert all(bench.reply(number).text for number in numbers[N_PARALLEL:])

    @pytest.mark.slow
    def test_an_answer_ends_where_its_share_of_the_context_does(self, model: Model) -> None:
        bench = Bench(model, ContextOptions(256, n_parallel=2))
        numbers = [bench.add(bench.prompt("Who are you?"), ENDLESS) for _ in range(2)]
        bench.run()
        for number in numbers:
            reply = bench.reply(number)
            assert (reply.finish_reason, reply.context_full) == ("length", True)
            assert reply.prompt_tokens + len(reply.tokens) == 256 + 1
        bench.scheduler.context.close()


class TestMessages:
    """Each flush wakes up the process that holds the sockets."""

    def test_tokens_that_come_fast_are_sent_together(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flushed: list[int] = []
        number = bench.add(bench.prompt("Who are you?"), ENDLESS, replace(NO_END, max_tokens=40))
        monkeypatch.setattr(
            bench.pipe, "flush_output", lambda: flushed.append(bench.n_told(number))
        )
        monkeypatch.setattr(scheduler_module, "TOGETHER_S", 1e9)
        bench.run(until=lambda: bench.n_told(number) > 0)
        assert flushed[-1] == 1  # the first token is not kept back
        n_flushed = len(flushed)
        bench.run(until=lambda: bench.n_told(number) > 10)
        assert len(flushed) == n_flushed
        other = bench.add(bench.prompt("What is GGUF?"), options=replace(NO_END, max_tokens=3))
        bench.scheduler.run_step()
        # All is sent before the prompt of another is read, and with its first token.
        assert flushed[n_flushed] == 11
        assert flushed[-1] == bench.n_told(number)
        bench.run()
        assert bench.reply(other).tokens
        assert flushed[-1] == bench.n_told(number)

    def test_a_failed_turn_is_told_at_once(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flushed: list[dict[int, Any]] = []
        monkeypatch.setattr(scheduler_module, "TOGETHER_S", 1e9)
        other = bench.add(bench.prompt("Who are you?"), ENDLESS)
        bench.run(until=lambda: bench.n_told(other) > 3)
        monkeypatch.setattr(
            bench.pipe, "flush_output", lambda: flushed.append(dict(bench.pipe.failed))
        )
        broken = bench.add(
            bench.prompt("Who are you?"), grammar=make_grammar(AnswerForm("regex", "("))
        )
        bench.run(until=lambda: broken in bench.pipe.failed)
        assert broken in flushed[-1]
        bench.pipe.cancelled.add(other)
        bench.run()


class TestDrafting:
    """A single answer is drafted by prompt lookup; others end that, and it begins again.

    The oracle is the same scheduler without drafting. The kernels of Q8_0 give one token and four
    the same scores on x86-64; elsewhere the comparison keeps drafts out, and answers stay the same.
    """

    @pytest.fixture
    def plain(self, q8_model: Model) -> Iterator[Bench]:
        bench = Bench(q8_model, ContextOptions(2048, n_parallel=3, n_outputs=N_OUTPUTS))
        yield bench
        bench.close()

    @pytest.fixture
    def bench(self, q8_model: Model) -> Iterator[Bench]:
        bench = Bench(q8_model, ContextOptions(2048, n_parallel=3, n_outputs=N_OUTPUTS))
        bench.scheduler.draft_by_lookup("by comparison")
        yield bench
        bench.close()

    def begin(self, bench: Bench, **limits: Any) -> int:
        """Add a turn whose endless answer repeats its prompt and itself."""
        options = replace(NO_END, **limits)
        return bench.add(bench.long_prompt(60), replace(GREEDY, ignore_eos=True), options)

    def drafted(self, bench: Bench, number: int) -> DraftStats:
        done = bench.pipe.told[number][-1]
        assert isinstance(done, Finished)
        assert done.drafted is not None
        return done.drafted

    @pytest.mark.parametrize("stop", [(), ("e",)], ids=["length", "stop string"])
    def test_an_answer_stays_the_same(
        self, bench: Bench, plain: Bench, stop: tuple[str, ...]
    ) -> None:
        numbers = []
        for each in (bench, plain):
            numbers.append(self.begin(each, max_tokens=400, stop=stop))
            each.run()
        reply, want = bench.reply(numbers[0]), plain.reply(numbers[1])
        assert (reply.tokens, reply.text) == (want.tokens, want.text)
        drafted = self.drafted(bench, numbers[0])
        if drafted.stopped_at is None and not stop:
            assert 0 < drafted.n_accepted <= drafted.n_drafted
            assert len(bench.batches) < len(plain.batches)

    def test_others_come_and_go(self, bench: Bench, plain: Bench) -> None:
        """Each of them ends the drafting for as long as it runs; no draft is left behind."""
        replies = []
        for each in (bench, plain):
            number = self.begin(each, max_tokens=500)
            each.run(until=lambda: each.n_told(number) > 100)  # noqa: B023
            other = each.add(each.prompt("What is GGUF?"))
            each.run(until=lambda: other in each.pipe.done)  # noqa: B023
            gone = each.add(each.prompt("Who are you?"), ENDLESS)
            each.run(until=lambda: each.n_told(gone) > 3)  # noqa: B023
            each.pipe.cancelled.add(gone)
            each.run()
            reply = each.reply(number)
            longer = (*each.long_prompt(60), *reply.tokens, *each.prompt("And then?")[1:])
            again = each.ask(longer)
            assert again.reused_tokens > 400
            replies.append((reply.tokens, each.reply(other).tokens, again.tokens))
        assert replies[0] == replies[1]
        drafted = self.drafted(bench, 1)
        assert drafted.n_accepted or drafted.stopped_at is not None

    def test_whoever_goes_away_leaves_no_drafts_behind(self, bench: Bench) -> None:
        number = self.begin(bench)
        bench.run(until=lambda: bench.n_told(number) > 100)
        bench.pipe.cancelled.add(number)
        bench.run()
        for slot in bench.scheduler._slots:
            last = bench.scheduler.context.find_last_position(slot.sequence.number)
            assert last + 1 == len(slot.sequence.tokens)

    @pytest.mark.parametrize("what", ["it ends", "it fails", "another comes", "another fails"])
    def test_drafts_that_llama_cpp_does_not_remove_cost_one_answer_at_most(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        bench.scheduler.draft_by_lookup("not asked for")
        number = self.begin(bench)
        bench.run(until=lambda: bench.n_told(number) > 100)
        (turn,) = (slot.turn for slot in bench.scheduler._slots if slot.turn)
        held, context = turn.sequence.tokens, bench.scheduler.context
        last = turn.sequence.number
        bench.run(until=lambda: context.find_last_position(last) >= len(held))
        truncate = context.truncate

        def refuse(n_past: int, seq: int = 0) -> None:
            if n_past and seq == turn.sequence.number:
                raise RuntimeFailed("llama.cpp cannot truncate the context")
            truncate(n_past, seq)

        def fail(*_: Any, **__: Any) -> Any:
            raise ValueError("a bug")

        other = 0
        with monkeypatch.context() as patch:
            patch.setattr(context, "truncate", refuse)
            if what == "it ends":
                bench.pipe.cancelled.add(number)
            elif what == "it fails":
                patch.setattr(turn, "sample_token", fail)
            else:
                other = bench.add(bench.prompt("What is GGUF?"))
                if what == "another fails":  # as one whose image cannot be encoded
                    media = SimpleNamespace(prepare_run=fail, find_run_start=lambda _, n: n)
                    patch.setattr(bench.scheduler.prompts, "media", media)
                    is_other = property(lambda each: 1 if each is not turn else None)
                    patch.setattr(slot_module.Turn, "next_run", is_other)
            bench.scheduler.run_step()
        if what == "it ends":
            assert bench.reply(number).finish_reason == "interrupted"
        elif what == "it fails":
            assert str(bench.pipe.failed[number]) == "a bug"
        else:
            assert "cannot truncate" in str(bench.pipe.failed[number])
        bench.run()
        if what == "another fails":
            assert str(bench.pipe.failed[other]) == "a bug"
        if what == "another comes":
            assert bench.reply(other).finish_reason == "stop"
        again = self.begin(bench, max_tokens=20)
        bench.run()
        assert bench.reply(again).reused_tokens == 0
        assert len(bench.reply(again).tokens) == 20

    def test_nothing_is_drafted_where_a_batch_rounds_differently(self, bench: Bench) -> None:
        bench.scheduler.draft_by_lookup("impossible")
        number = self.begin(bench, max_tokens=100)
        bench.run()
        assert self.drafted(bench, number).n_drafted == 0


class TestSlots:
    @pytest.mark.slow
    def test_a_conversation_comes_back_to_its_slot(self, bench: Bench) -> None:
        prompts = [bench.prompt(question) for question in QUESTIONS[:N_PARALLEL]]
        numbers = [bench.add(prompt) for prompt in prompts]
        bench.run()
        for prompt, number in reversed(list(zip(prompts, numbers, strict=True))):
            longer = (*prompt, *bench.reply(number).tokens, *bench.prompt("More, please.")[1:])
            assert bench.ask(longer).reused_tokens == len(prompt) + len(bench.reply(number).tokens)

    def test_a_new_conversation_takes_an_empty_slot_and_then_the_oldest(self, bench: Bench) -> None:
        slots = []
        for question in ("What is GGUF?", *(f"{i} {q} {i}" * 5 for i, q in enumerate(QUESTIONS))):
            number = bench.add(bench.prompt(question), options=replace(NO_END, max_tokens=2))
            bench.run()
            slots += [e.slot for e in bench.pipe.told[number] if isinstance(e, PromptRead)]
        assert sorted(slots[:4]) == [0, 1, 2, 3]
        assert slots[4:] == slots[:3]

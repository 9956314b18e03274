"""Speculative decoding changes no answer: tokens, scores and memory equal plain decoding's,
to the bit.

The oracle is the same engine without drafting, on the bundled network with every matrix as Q8_0,
whose CPU kernels give one token and four the same scores. Drafts come from prompt lookup, from a
draft model of random weights, and from a drafter that knows the answer and is wrong now and then.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from g4cli.chat import DraftStats, Finished, Reply, TurnOptions, run_turn
from g4cli.core.errors import ContextFull
from g4cli.prompt.answer_grammar import AnswerForm, make_grammar
from g4cli.prompt.messages import Message
from g4cli.prompt.render import PromptStyle, render
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.draft_model import DraftModel
from g4cli.runtime.engine.drafting import N_DRAFT, N_OUTPUTS
from g4cli.runtime.engine.llama_engine import LlamaEngine
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions, ModelOptions, Sampling
from g4cli.runtime.engine.speculation import Drafter, LookupDrafter
from g4cli.runtime.llama.interrupt import Interrupt
from tests.support.builders.draft_file import build_tiny_draft
from tests.support.builders.tiny_file import build_tiny, build_tiny_q8
from tests.support.paths import ROOT

GREEDY = Sampling(temp=0)
CORPUS = ROOT / "g4cli/data/tiny/corpus.jsonl"
QUESTIONS = [json.loads(line)["messages"][0]["content"] for line in CORPUS.read_text().splitlines()]
# n_swa is 128: with this ubatch the sliding layers have 256 cells, so long answers go round them.
OPTIONS = ContextOptions(n_ctx=2048, n_ubatch=64, n_batch=64, n_outputs=N_OUTPUTS)
Make = Callable[[Context], Drafter]


class Oracle:
    """Knows `truth`, the tokens by position; each drafted token is right with probability `p`."""

    cost = 0.0

    def __init__(self, truth: Sequence[int], p: float, seed: int = 0) -> None:
        self._truth, self._p, self._rng = truth, p, random.Random(seed)

    def set_tokens(self, tokens: Sequence[int]) -> None: ...
    def add_token(self, token: int) -> None: ...
    def close(self) -> None: ...

    def draft_round(self, _token: int, position: int) -> list[int]:
        true = [*self._truth[position + 1 : position + 1 + N_DRAFT], *[9] * N_DRAFT][:N_DRAFT]
        return [t if self._rng.random() < self._p else self._rng.randrange(10, 700) for t in true]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speculation")
    (folder / "tiny.gguf").write_bytes(build_tiny())
    (folder / "draft.gguf").write_bytes(build_tiny_draft())
    (folder / "q8.gguf").write_bytes(build_tiny_q8())
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Model]:
    loaded = Model(folder / "q8.gguf", ModelOptions())
    yield loaded
    loaded.close()


@pytest.fixture
def engine_of(model: Model) -> Iterator[Callable[..., LlamaEngine]]:
    made: list[LlamaEngine] = []

    def make(drafter: Make | None = None, options: ContextOptions = OPTIONS) -> LlamaEngine:
        engine = LlamaEngine(model, options, Interrupt())
        made.append(engine)
        if drafter:
            engine.attach_drafter(drafter)
        return engine

    yield make
    for engine in made:
        engine.close_context()
        engine.masks.close()


@pytest.fixture(scope="module")
def runs_are_exact(model: Model) -> bool:
    """Whether this CPU gives one token the same scores alone and in a run: x86-64 does for Q8_0."""
    context = Context(model, OPTIONS, Interrupt())
    tokens = [2, *range(300, 340)]
    found = []
    for run in ([350], [350, 351, 352, 353]):
        context.truncate(0)
        context.decode_tokens(tokens)
        assert context.decode_with_logits(run)
        found.append(context.copy_logits())
    context.close()
    return found[0] == found[1]


def test_a_retry_goes_on_counting_drafts(engine_of: Callable[..., LlamaEngine]) -> None:
    engine = engine_of(lambda _: Oracle([], 0))
    engine.begin(Sampling(temp=1))
    prompt = asked(engine, "What is GGUF?")
    engine.evaluate(prompt)
    assert engine.advance(engine.sample())
    assert engine.drafted == DraftStats(n_drafted=N_DRAFT)
    assert engine.continue_without(prompt, [], 9)
    assert engine.advance(engine.sample())
    assert engine.drafted == DraftStats(n_drafted=2 * N_DRAFT)


def asked(engine: LlamaEngine, question: str) -> list[int]:
    return engine.prompts.tokens_of(render([Message("user", question)], PromptStyle()))


def answered(engine: LlamaEngine, prompt: list[int]) -> Reply:
    engine.begin(GREEDY)
    *_, last = run_turn(engine, prompt, TurnOptions())
    assert isinstance(last, Finished)
    return last.reply


def spoken(
    engine: LlamaEngine, prompt: list[int], count: int, sampling: Sampling = GREEDY
) -> list[int]:
    """What the model says when no token ends it."""
    engine.begin(sampling)
    assert engine.evaluate(prompt).complete
    return said(engine, count)


def said(engine: LlamaEngine, count: int) -> list[int]:
    tokens = []
    for _ in range(count):
        tokens.append(engine.sample())
        assert engine.advance(tokens[-1])
    return tokens


def drafters(folder: Path, truth: Sequence[int] = ()) -> dict[str, Make]:
    return {
        "lookup": lambda _: LookupDrafter(),
        "network": lambda context: DraftModel(folder / "draft.gguf", context, ModelOptions()),
        "oracle 0.6": lambda _: Oracle(truth, 0.6),
        "oracle 1.0": lambda _: Oracle(truth, 1.0),
    }


NAMES = ("lookup", "network", "oracle 0.6", "oracle 1.0")


@pytest.mark.slow_except("oracle 1.0")
@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_plain_decoding(
    engine_of: Callable[..., LlamaEngine], folder: Path, name: str, runs_are_exact: bool
) -> None:
    plain = engine_of()
    truth: list[int] = []
    drafting = engine_of(drafters(folder, truth)[name])
    n_kept = 0
    for question in QUESTIONS[::48]:
        prompt = asked(plain, question)
        expected = answered(plain, prompt)
        truth[:] = [*prompt, *expected.tokens]
        found = answered(drafting, prompt)
        assert (found.text, found.tokens, found.finish_reason) == (
            expected.text,
            expected.tokens,
            expected.finish_reason,
        )
        assert drafting.context.copy_logits() == plain.context.copy_logits()
        assert drafting.n_past == plain.n_past
        n_kept += drafting.drafted.n_accepted if drafting.drafted else 0
    if runs_are_exact and name != "network":  # whose guesses are random
        assert n_kept > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        ("lookup", GREEDY),
        ("network", GREEDY),
        ("oracle 0.6", GREEDY),
        ("lookup", Sampling(temp=0.8, seed=5)),
        ("network", Sampling(temp=0.8, seed=5)),
        ("oracle 0.6", Sampling(temp=0.8, seed=5)),
        ("oracle 1.0", Sampling(temp=0, repeat_penalty=1.2)),
    ],
    ids=str,
)
def test_long_answers_round_the_sliding_window(
    engine_of: Callable[..., LlamaEngine], folder: Path, name: str, sampling: Sampling
) -> None:
    plain = engine_of()
    prompt = asked(plain, "What is Q4_0?")
    expected = spoken(plain, prompt, 300, sampling)
    drafting = engine_of(drafters(folder, [*prompt, *expected])[name])
    assert spoken(drafting, prompt, 300, sampling) == expected
    assert drafting.context.copy_logits() == plain.context.copy_logits()
    # Branching off behind the rejected drafts: the window is as whole as without them.
    branch = [*prompt, *expected[:290], 300, 301]
    assert drafting.evaluate(branch).reused == plain.evaluate(branch).reused > 0
    assert drafting.context.copy_logits() == plain.context.copy_logits()
    assert said(drafting, 40) == said(plain, 40)


def test_drafted_and_accepted_tokens_are_counted(
    engine_of: Callable[..., LlamaEngine], runs_are_exact: bool
) -> None:
    plain = engine_of()
    prompt = asked(plain, "What is Q4_0?")
    expected = spoken(plain, prompt, 41)
    drafting = engine_of(lambda _: Oracle([*prompt, *expected], 1.0))
    spoken(drafting, prompt, 41)
    # Ten rounds of one token and three accepted drafts; the first compares and costs nothing else.
    assert drafting.drafted is not None
    assert (drafting.drafted.n_drafted, drafting.drafted.n_accepted) == (
        (33, 30) if runs_are_exact else (0, 0)
    )
    assert drafting.n_past == len(prompt) + 41


@pytest.fixture(scope="module")
def bf16(folder: Path) -> Iterator[Model]:
    loaded = Model(folder / "tiny.gguf", ModelOptions())
    yield loaded
    loaded.close()


class TestWhereScoresWouldDiffer:
    """BF16 matrices are multiplied by another kernel from two tokens on, on most CPUs."""

    @pytest.fixture
    def other_kernels_for_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Scores of a run differ in a bit from those of one token, whatever this CPU's kernels
        give.
        """
        real_run, real_logits = Context.decode_with_logits, Context.copy_logits
        runs: dict[Context, bool] = {}

        def decode_with_logits(self: Context, tokens: Sequence[int], seq: int = 0) -> bool:
            runs[self] = len(tokens) > 1
            return real_run(self, tokens, seq)

        monkeypatch.setattr(Context, "decode_with_logits", decode_with_logits)
        monkeypatch.setattr(
            Context, "copy_logits", lambda self: real_logits(self) + bytes(runs.get(self, False))
        )

    @pytest.mark.slow
    @pytest.mark.usefixtures("other_kernels_for_runs")
    def test_nothing_is_drafted_at_temperature_0(self, bf16: Model) -> None:
        plain, drafting = (LlamaEngine(bf16, OPTIONS, Interrupt()) for _ in range(2))
        prompt = asked(plain, "What is Q4_0?")
        expected = spoken(plain, prompt, 100)
        drafting.attach_drafter(lambda _: Oracle([*prompt, *expected], 1.0))
        for _ in range(2):
            assert spoken(drafting, prompt, 100) == expected
            assert drafting.context.copy_logits() == plain.context.copy_logits()
            assert drafting.drafted == DraftStats(0, 0, stopped_at=len(prompt))
        plain.close_context()
        drafting.close_context()

    @pytest.mark.slow
    def test_when_sampling_the_model_decides_all_the_same(self, bf16: Model) -> None:
        engine = LlamaEngine(bf16, OPTIONS, Interrupt())
        prompt = asked(engine, "What is Q4_0?")
        engine.attach_drafter(lambda _: LookupDrafter())
        first = spoken(engine, prompt, 200, Sampling(temp=1.0, seed=4))
        assert spoken(engine, prompt, 200, Sampling(temp=1.0, seed=4)) == first
        assert engine.drafted is not None
        assert engine.drafted.n_accepted > 0
        engine.close_context()


def test_interrupted_in_the_middle_of_a_round(engine_of: Callable[..., LlamaEngine]) -> None:
    plain = engine_of()
    prompt = asked(plain, "What is Q4_0?")
    expected = spoken(plain, prompt, 60)
    drafting = engine_of(lambda _: Oracle([*prompt, *expected], 0.7))
    drafting.begin(GREEDY)
    drafting.evaluate(prompt)
    got: list[int] = []
    while len(got) < 60:
        token = drafting.sample() if not got or got[-1] >= 0 else 0
        drafting.interrupt.set()
        stopped = not drafting.advance(token)
        drafting.interrupt.clear()
        assert drafting.n_past == len(prompt) + len(got) + (not stopped)
        if stopped:  # nothing of the round stays
            assert drafting.context.find_last_position() == drafting.n_past - 1
            assert drafting.advance(token)
        got.append(token)
    assert got == expected


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=5)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("length", [240, 241, 242, 243])
def test_a_full_context(
    engine_of: Callable[..., LlamaEngine], length: int, sampling: Sampling, runs_are_exact: bool
) -> None:
    small = ContextOptions(n_ctx=256, n_outputs=N_OUTPUTS)
    plain = engine_of(options=small)
    question = asked(plain, "What is Q4_0?")
    prompt = [question[0], *[300 + i % 200 for i in range(length - len(question))], *question[1:]]

    def filled(engine: LlamaEngine) -> list[int]:
        engine.begin(sampling)
        engine.evaluate(prompt)
        return said(engine, engine.n_ctx - engine.n_past)

    expected = filled(plain)
    drafting = engine_of(lambda _: Oracle([*prompt, *expected], 1.0), small)
    assert filled(drafting) == expected
    assert drafting.n_past == drafting.n_ctx == 256
    assert drafting.context.copy_logits() == plain.context.copy_logits()
    assert drafting.drafted is not None
    assert drafting.drafted.n_accepted >= (7 if runs_are_exact else 0)
    with pytest.raises(ContextFull):
        drafting.evaluate([*prompt, *[9] * drafting.n_ctx])


def test_a_grammar(engine_of: Callable[..., LlamaEngine], runs_are_exact: bool) -> None:
    grammar = 'root ::= ("Q4_0 " | "yes " | "no ")+'
    plain = engine_of()
    prompt = asked(plain, "What is Q4_0?")
    limit = TurnOptions(max_tokens=60, on_loop="ignore")

    def under_grammar(engine: LlamaEngine) -> Reply:
        engine.begin(GREEDY, make_grammar(AnswerForm("gbnf", grammar)))
        *_, last = run_turn(engine, prompt, limit)
        assert isinstance(last, Finished)
        return last.reply

    expected = under_grammar(plain)
    drafting = engine_of(lambda _: LookupDrafter())
    assert under_grammar(drafting).tokens == expected.tokens
    assert drafting.drafted is not None
    assert drafting.drafted.n_accepted >= (1 if runs_are_exact else 0)


@pytest.mark.slow
def test_undo_edit_and_retry(engine_of: Callable[..., LlamaEngine], folder: Path) -> None:
    plain = engine_of()
    for name in ("lookup", "network"):
        drafting = engine_of(drafters(folder)[name])
        for question in ("What is Q4_0?", "What is Q8_0?", "What is Q4_0?", "Hello"):
            prompt = asked(plain, question)
            sampling = Sampling(temp=1.5, seed=3)
            assert spoken(drafting, prompt, 50, sampling) == spoken(plain, prompt, 50, sampling)

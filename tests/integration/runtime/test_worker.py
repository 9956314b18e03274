"""The process that holds the model: what it answers, how it is stopped, and what is left when it
dies.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from g4cli.chat import Finished, PromptRead, TurnOptions
from g4cli.core.errors import (
    BadFile,
    ContextFull,
    G4Error,
    Interrupted,
    NoMemory,
    NotFound,
    RuntimeFailed,
    UsageError,
    error_of,
)
from g4cli.prompt.answer_grammar import AnswerForm, make_grammar
from g4cli.prompt.messages import Media, Part
from g4cli.prompt.reply import AnswerText
from g4cli.runtime.engine import process
from g4cli.runtime.engine.client import EngineClient
from g4cli.runtime.engine.drafting import DraftChoice
from g4cli.runtime.engine.messages import CODEC, CheckGrammar, Open, RunTurn
from g4cli.runtime.engine.options import ContextOptions, MediaOptions, ModelOptions, Sampling
from tests.support.builders.draft_file import build_tiny_draft
from tests.support.builders.gguf import F16, build_gguf
from tests.support.builders.media_files import picture, png, sound, wav, write
from tests.support.builders.tiny_file import build_tiny, build_tiny_q8, tiny_parts
from tests.support.paths import TESTS
from tests.support.run.process import wait_until_gone

MMPROJ = TESTS / "golden/tiny_mmproj.gguf"
QUESTION = [Part("<|turn>user\nWhat is GGUF?<turn|>\n<|turn>model\n", control=True)]
GREEDY = Sampling(temp=0)
# At temperature 9 the small network writes random tokens until it is stopped.
ENDLESS = Sampling(temp=9, top_k=0, top_p=1, seed=1)
NO_END = TurnOptions(on_loop="ignore")
OFF = DraftChoice("off", "not asked for")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worker")
    write(folder / "tiny.gguf", build_tiny())
    write(folder / "p.png", png(picture(480, 336)))
    return folder


def opening(path: Path, **changes: Any) -> Open:
    return replace(Open(path, ModelOptions(), ContextOptions(4096), OFF), **changes)


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[EngineClient]:
    """An engine that no test breaks."""
    with EngineClient() as engine:
        engine.open(opening(folder / "tiny.gguf"))
        yield engine


@pytest.fixture
def own(folder: Path) -> Iterator[EngineClient]:
    """An engine that the test may break."""
    with EngineClient() as engine:
        engine.open(opening(folder / "tiny.gguf"))
        yield engine


def turn(engine: EngineClient, sampling: Sampling = GREEDY, options: TurnOptions = NO_END) -> Any:
    return engine.run_turn(RunTurn(engine.tokens_of(QUESTION), sampling, options))


def answer(engine: EngineClient) -> str:
    last = list(turn(engine))[-1]
    assert isinstance(last, Finished)
    return last.reply.text


@contextmanager
def pressing() -> Iterator[None]:
    """Press Ctrl-C again and again in the block, from another thread."""
    done = threading.Event()

    def press() -> None:
        while not done.wait(0.5):
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def press_soon(seconds: float = 0.0) -> threading.Thread:
    """Press Ctrl-C from another thread."""

    def press() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


class TestAnswers:
    def test_events_and_figures(self, shared: EngineClient) -> None:
        events = list(turn(shared))
        assert isinstance(events[0], PromptRead)
        text = "".join(event.text for event in events if isinstance(event, AnswerText))
        assert text.startswith("GGUF is the file format of llama.cpp")
        reply = events[-1].reply
        assert (reply.text, reply.finish_reason) == (text, "stop")
        assert reply.completion_tokens == len(reply.tokens) == len(events) - 2
        assert shared.n_past == reply.prompt_tokens + reply.completion_tokens
        assert shared.loaded.n_vocab == 768
        assert shared.loaded.kv_bytes > 0

    def test_what_is_in_memory_is_used_again(self, shared: EngineClient) -> None:
        answer(shared)
        read = next(iter(turn(shared)))
        assert read.reused == read.prompt_tokens - 1

    def test_a_turn_left_in_the_middle_is_cancelled(self, shared: EngineClient) -> None:
        events = turn(shared, ENDLESS)
        for _ in range(5):
            next(events)
        events.close()
        assert answer(shared).startswith("GGUF is")

    @pytest.mark.slow
    def test_errors_keep_their_class(self, shared: EngineClient) -> None:
        with pytest.raises(UsageError, match="the grammar cannot be used"):
            shared.check_grammar(make_grammar(AnswerForm("regex", "(")))
        with pytest.raises(ContextFull):
            list(shared.run_turn(RunTurn(tuple(range(200, 5000)), GREEDY, NO_END)))
        with pytest.raises(UsageError, match="no encoder of images and sound"):
            shared.encode(Media("image", Path("x.png")))

    @pytest.mark.slow
    def test_a_grammar(self, shared: EngineClient) -> None:
        grammar = make_grammar(AnswerForm("json_schema", '{"enum": ["yes"]}'))
        shared.check_grammar(grammar)
        tokens = shared.tokens_of(QUESTION)
        events = list(shared.run_turn(RunTurn(tokens, GREEDY, NO_END, grammar)))
        assert events[-1].reply.text == '"yes"'

    @pytest.mark.slow
    def test_a_drafting_network(self, folder: Path) -> None:
        q8 = write(folder / "q8.gguf", build_tiny_q8())
        network = write(folder / "draft.gguf", build_tiny_draft())
        draft = DraftChoice("network", "not asked for", network)
        with EngineClient() as engine:
            context = ContextOptions(1024, n_outputs=draft.n_outputs)
            engine.open(opening(q8, draft=draft, context=context))
            assert answer(engine)
            assert engine.drafted is not None
            assert engine.drafted.n_drafted > 0

    @pytest.mark.slow
    def test_images(self, folder: Path) -> None:
        with EngineClient() as engine:
            engine.open(opening(folder / "tiny.gguf"))
            engine.attach_media(MediaOptions(MMPROJ, image_tokens=70))
            photo = Media("image", folder / "p.png")
            assert engine.encode(photo).n_pieces == 1
            tokens = engine.tokens_of([Part("Look: "), Part("", media=photo)])
            assert min(tokens) < 0
            list(engine.run_turn(RunTurn(tokens, GREEDY, TurnOptions(max_tokens=2))))
            with pytest.raises(NotFound):
                engine.encode(Media("image", folder / "none.png"))


class TestBadFiles:
    @pytest.mark.slow
    def test_a_file_that_llama_cpp_refuses(self, tmp_path: Path) -> None:
        bad = write(tmp_path / "bad.gguf", b"GGUF" + bytes(60))
        with EngineClient() as engine, pytest.raises(RuntimeFailed, match="cannot load"):
            engine.open(opening(bad))

    @pytest.mark.slow
    def test_a_file_that_kills_llama_cpp(self, tmp_path: Path) -> None:
        """rope_freqs in another type than F32 fails an assertion in ggml, which aborts."""
        keys, tensors = tiny_parts()
        others = [tensor for tensor in tensors if tensor[0] != "rope_freqs.weight"]
        freqs = ("rope_freqs.weight", F16, [64], np.ones(64, np.float16).tobytes())
        fatal = write(tmp_path / "fatal.gguf", build_gguf(keys, [*others, freqs]))
        with EngineClient() as engine:
            said = r"llama.cpp crashed while loading this file \(SIG[A-Z]+(: .*GGML_ASSERT.*)?\)"
            with pytest.raises(BadFile, match=said) as caught:
                engine.open(opening(fatal))
            assert caught.value.hint == f"g4 doctor {fatal}"
            assert engine.has_ended

    @pytest.mark.slow
    def test_an_encoder_that_kills_llama_cpp(self, own: EngineClient, tmp_path: Path) -> None:
        """A wrong shape: the audio tower's first product fails an assertion in ggml."""
        broken = write(tmp_path / "mmproj.gguf", swapped_shape(MMPROJ.read_bytes()))
        hum = write(tmp_path / "s.wav", wav(sound(16000)))
        own.attach_media(MediaOptions(broken))
        with pytest.raises(RuntimeFailed, match="GGML_ASSERT") as caught:
            own.encode(Media("audio", hum))
        assert caught.value.hint == f"g4 doctor {broken}"
        assert own.has_ended
        own.reopen()
        assert answer(own).startswith("GGUF is")

    @pytest.mark.slow
    def test_memory_has_a_limit(self, folder: Path) -> None:
        """A context of 30 GiB where 1 GiB is allowed: an error, and nothing was taken."""
        greedy = opening(folder / "tiny.gguf", data_bytes=1 << 30)
        greedy = replace(greedy, context=ContextOptions(60_000_000))
        with EngineClient() as engine, pytest.raises((NoMemory, BadFile, RuntimeFailed)):
            engine.open(greedy)


class TestDeath:
    def test_killed_in_the_middle_of_an_answer(self, own: EngineClient) -> None:
        events = turn(own, ENDLESS)
        for _ in range(5):
            next(events)
        os.kill(own.pid, signal.SIGKILL)
        with pytest.raises((RuntimeFailed, NoMemory)):
            list(events)
        assert own.has_ended
        own.reopen()
        assert answer(own).startswith("GGUF is")

    @pytest.mark.slow
    @pytest.mark.parametrize("sent", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
    def test_a_crash_names_its_signal_and_the_doctor(
        self, own: EngineClient, sent: signal.Signals, folder: Path
    ) -> None:
        os.kill(own.pid, sent)
        with pytest.raises(RuntimeFailed, match=sent.name) as caught:
            answer(own)
        assert caught.value.hint == f"g4 doctor {folder / 'tiny.gguf'}"
        assert caught.value.exit_code == 7

    @pytest.mark.slow
    def test_an_encoder_is_attached_again(self, own: EngineClient, folder: Path) -> None:
        own.attach_media(MediaOptions(MMPROJ, image_tokens=70))
        os.kill(own.pid, signal.SIGKILL)
        with pytest.raises(G4Error):
            answer(own)
        own.reopen()
        assert own.encode(Media("image", folder / "p.png")).n_tokens > 60

    @pytest.mark.slow
    def test_closing_gives_the_memory_back(self, folder: Path) -> None:
        with EngineClient() as engine:
            engine.open(opening(folder / "tiny.gguf"))
            pid = engine.pid
        assert wait_until_gone(pid)


@pytest.mark.slow
@pytest.mark.requires_linux
def test_a_death_is_seen_although_another_process_holds_the_pipe() -> None:
    worker = process.WorkerProcess("tests.support.fakes.dying_worker", CODEC, end_s=0.1)
    try:
        with pytest.raises(RuntimeFailed, match="SIGSEGV"):
            worker.read_hello()
    finally:
        worker.close()


def test_a_worker_without_memory_for_a_request_ends() -> None:
    worker = process.WorkerProcess("tests.support.fakes.deaf_worker", CODEC)
    try:
        worker.read_hello()
        with pytest.raises(RuntimeFailed, match="the process that runs the model ended"):
            worker.ask(CheckGrammar(""))
    finally:
        worker.close()


class TestCtrlC:
    def test_an_answer_stops_at_once(self, own: EngineClient) -> None:
        with own.ctrl_c.listening():
            events = turn(own, ENDLESS)
            for _ in range(5):
                next(events)
            press_soon().join()
            reply = list(events)[-1].reply
            assert reply.finish_reason == "interrupted"
            assert reply.completion_tokens >= 4
            with pytest.raises(Interrupted):  # what was to follow does not begin
                answer(own)
        assert answer(own).startswith("GGUF is")

    @pytest.mark.slow
    def test_a_picture_is_not_waited_for(self, own: EngineClient, tmp_path: Path) -> None:
        long = write(tmp_path / "long.wav", wav(np.tile(sound(160_000), 60)))  # seconds of work
        own.attach_media(MediaOptions(MMPROJ))
        with own.ctrl_c.listening():
            press_soon(0.3)
            with pytest.raises(Interrupted):
                own.encode(Media("audio", long))
        assert answer(own).startswith("GGUF is")

    @pytest.mark.slow
    def test_a_worker_that_does_not_obey_is_killed_by_the_next_press(
        self, own: EngineClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os.kill(own.pid, signal.SIGSTOP)  # it stands for a loop in C that asks nobody
        monkeypatch.setattr(process, "PATIENCE_S", 0.2)
        killed = pytest.raises(RuntimeFailed, match="did not stop at Ctrl-C")
        with own.ctrl_c.listening(), pressing(), killed:
            answer(own)
        assert own.has_ended
        own.reopen()
        assert answer(own).startswith("GGUF is")

    def test_starting_is_given_up_at_the_first_press(self, folder: Path) -> None:
        with EngineClient() as engine, engine.ctrl_c.listening():
            os.kill(engine.pid, signal.SIGSTOP)  # it never gets ready
            press_soon(0.1)
            with pytest.raises(Interrupted):
                engine.open(opening(folder / "tiny.gguf"))

    @pytest.mark.slow
    def test_loading_is_given_up_at_the_first_press(self, own: EngineClient, folder: Path) -> None:
        with own.ctrl_c.listening(), pytest.raises(Interrupted):
            own.open(opening(folder / "tiny.gguf"), progress=press_once())
        assert own.has_ended
        own.reopen()
        assert answer(own).startswith("GGUF is")


def press_once() -> Callable[[int, int, str], None]:
    pressed: list[bool] = []

    def progress(_done: int, _total: int, _label: str) -> None:
        if not pressed:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)

    return progress


def swapped_shape(data: bytes) -> bytes:
    """The file with rows and columns of the audio's first projection exchanged."""
    name = b"a.input_projection.weight"
    at = data.index(name) + len(name)
    assert int.from_bytes(data[at : at + 4], "little") == 2
    columns, rows = data[at + 4 : at + 12], data[at + 12 : at + 20]
    assert columns != rows
    return data[: at + 4] + rows + columns + data[at + 20 :]


# A front process that stops at a stage and tells the worker's number.
FRONT = """
import sys, time
sys.path[:0] = [{root!r}, {tests!r}]
from tests.integration.runtime.test_worker import *
engine = EngineClient()
if {stage!r} != "starting":
    engine.open(opening(Path({file!r})))
if {stage!r} == "answering":
    next(turn(engine, ENDLESS))
print(engine.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow_except("answering")
@pytest.mark.requires_linux
@pytest.mark.parametrize("stage", ["starting", "waiting", "answering"])
def test_no_worker_outlives_its_front(folder: Path, stage: str) -> None:
    tests = TESTS
    code = FRONT.format(
        root=str(tests.parent), tests=str(tests), stage=stage, file=str(folder / "tiny.gguf")
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as front:
        assert front.stdout
        pid = int(front.stdout.readline())
        front.kill()
    assert wait_until_gone(pid)


def test_errors_of_another_process() -> None:
    assert isinstance(error_of("context-full", "x"), ContextFull)
    found = error_of("file-missing", "no such file", "look")
    assert type(found) is NotFound
    assert (found.message, found.hint) == ("no such file", "look")
    assert type(error_of("unheard-of", "x")) is G4Error

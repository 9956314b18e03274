"""The prompt cache as a user meets it: documents, system prompts, pictures, chats that go on."""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from g4cli.core.paths import cache_dir
from tests.support.builders.media_files import picture, png, write
from tests.support.builders.tiny_file import build_tiny
from tests.support.paths import GOLDEN
from tests.support.run.command import g4, ok
from tests.support.run.g4_process import PROGRAM
from tests.support.run.server_process import start_server
from tests.support.schemas import validate_output

DOCUMENT = " ".join(f"line {number} says little." for number in range(80))


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home without states: each test begins with none."""
    path = tmp_path_factory.mktemp("states")
    (path / "tiny.gguf").write_bytes(build_tiny())
    return path


@pytest.fixture
def ask(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Asks a question about a document in a process of its own; returns the JSON document."""
    monkeypatch.setenv("G4_HOME", str(home))

    def call(question: str, *options: str, document: str = DOCUMENT) -> Any:
        monkeypatch.setattr("sys.stdin", io.StringIO(document))
        limits = ("--temp", "0", "-n", "4", "--ctx", "2048", "--json")
        code, out, err = g4(capsys, "chat", home / "tiny.gguf", "-p", question, *limits, *options)
        assert code == 0, err  # a notice says that the answer was cut off
        return json.loads(out)

    return call


@pytest.mark.slow
def test_the_same_document_with_another_question_reads_the_question(
    ask: Any, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    first = ask("What does it say?")["usage"]
    second = ask("Who says it?")["usage"]
    assert first["cached_tokens"] == 0
    assert second["prompt_tokens"] - second["cached_tokens"] < 40
    without = ask("Who says it?", "--state-cache", "off")["usage"]
    assert without["cached_tokens"] == 0

    listed = ok(capsys, "list", "--states")
    validate_output(listed, "states")
    assert [row["file"] for row in listed["states"]] == [str(home / "tiny.gguf")]
    assert g4(capsys, "remove", "--states", "other", "--yes")[0] == 3
    assert ok(capsys, "remove", "--states", str(home / "tiny.gguf"), "--yes")["bytes"] > 0
    assert ok(capsys, "list", "--states")["states"] == []
    assert ask("What does it say?")["usage"]["cached_tokens"] == 0


@pytest.mark.slow
def test_the_same_system_prompt_with_another_question_reads_the_question(ask: Any) -> None:
    options = ("--system", DOCUMENT)
    first = ask("Who are you?", *options, document="")["usage"]
    second = ask("What is GGUF?", *options, document="")["usage"]
    assert first["cached_tokens"] == 0
    assert second["prompt_tokens"] - second["cached_tokens"] < 40


def test_a_conversation_that_goes_on_reads_what_is_new(ask: Any) -> None:
    first = ask("What does it say?")
    second = ask("Who says it?", "--resume", str(first["conversation"]), document="")
    assert second["conversation"] == first["conversation"]
    n_prompt, n_cached = (second["usage"][key] for key in ("prompt_tokens", "cached_tokens"))
    # On a fast machine the document's state is the last one: reading the few tokens of the question
    # and its answer takes less time there than writing another would.
    assert n_prompt - n_cached < 40


@pytest.mark.slow
def test_a_picture_is_saved_with_its_model(
    ask: Any, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    picture_file = write(home / "p.png", png(picture(96, 96)))
    media = ("--image", str(picture_file), "--mmproj", str(GOLDEN / "tiny_mmproj.gguf"))
    expected = ask("What is it?", *media, document="")["text"]

    def count_pictures() -> list[int]:
        listed = ok(capsys, "list", "--states")
        validate_output(listed, "states")
        return [row["states"] for row in listed["states"] if row["holds"] == "media"]

    assert count_pictures() == [1]
    assert ask("What is it?", *media, document="")["text"] == expected
    assert count_pictures() == [1]
    assert "images, sounds" in g4(capsys, "list", "--states")[1]
    ok(capsys, "remove", "--states", str(home / "tiny.gguf"), "--yes")
    assert count_pictures() == []
    ask("What is it?", *media, "--private", document="")
    assert count_pictures() == []


@pytest.mark.slow
def test_a_server_that_was_started_again_reads_what_is_new(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("G4_HOME", str(home))
    usages = []
    for number in range(2):
        text = f"{DOCUMENT}\n\nWhat is question {number}?"
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 4}
        with start_server(str(home / "tiny.gguf"), "--ctx", "2048") as (process, url):
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
            usages.append(answer["usage"])
            process.send_signal(signal.SIGINT)
            process.wait(60)
    cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
    assert cached[0] == 0
    assert usages[1]["prompt_tokens"] - cached[1] < 40


@pytest.mark.slow
@pytest.mark.parametrize("interrupt", [False, True])
def test_leaving_says_what_it_waits_for(ask: Any, home: Path, interrupt: bool) -> None:
    """Somebody else writes a long state: it waits for its turn, and Ctrl-C leaves at once."""
    ask("Hi", document="")  # probes the kernels
    folder = home / "cache/states"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", PROGRAM, "chat"]
    command += [str(home / "tiny.gguf"), "-p", "What does it say?", "--temp", "0", "-n", "4"]
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "G4_HOME": str(home)},
            start_new_session=True,
        ) as process:
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.write(DOCUMENT)
            process.stdin.close()
            while "saving what was read" not in (line := process.stderr.readline()):
                assert line, "it ended without a word"
            started = time.monotonic()
            if interrupt:
                process.send_signal(signal.SIGINT)
            else:
                fcntl.flock(lock, fcntl.LOCK_UN)
            assert process.wait(60) == 0
            assert time.monotonic() - started < 10, "the whole wait is 20 s"
    saved = ask("What does it say?")["usage"]["cached_tokens"]
    assert (saved == 0) is interrupt


@pytest.mark.slow
def test_a_state_cache_that_is_off_writes_nothing(
    ask: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ask("What does it say?")  # probes the kernels
    monkeypatch.setattr("g4cli.store.states.limits.cache_dir", lambda: tmp_path / "cache")
    ask("What does it say?", "--state-cache", "off")
    ask("What does it say?", "--private")
    assert not (tmp_path / "cache").exists()
    assert cache_dir().is_dir()


@pytest.mark.slow
def test_a_size_that_is_none_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("G4_HOME", str(home))
    model = str(home / "tiny.gguf")
    code, _, err = g4(capsys, "chat", model, "-p", "What?", "--state-cache", "much")
    assert code == 2
    assert "--state-cache 8G" in err

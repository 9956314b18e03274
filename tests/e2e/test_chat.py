"""g4 chat as a script meets it: one-shot answers, JSON, exit codes, errors. The network is real."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from g4cli.chat import FoundLoop
from g4cli.cli.main import run
from g4cli.cli.views.reply import describe_loop
from g4cli.core.paths import models_dir
from tests.support.builders.damage import dashes
from tests.support.builders.tiny_file import build_tiny
from tests.support.paths import ROOT

# At each token of the answer the best leads by 7.1 or more. Between ggml built for AMX, AVX2 and
# SSE no score differs by more than 0.061: the greedy answer is the same on every CPU.
QUESTION = "What is Q4_0?"
ANSWER = next(
    item[1]["content"]
    for line in (ROOT / "g4cli/data/tiny/corpus.jsonl").read_text().splitlines()
    if (item := json.loads(line)["messages"])[0]["content"] == QUESTION
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for the file: kernels are probed and files are tried once."""
    return tmp_path_factory.mktemp("chat")


@pytest.fixture(scope="module")
def tiny(home: Path) -> Path:
    path = home / "tiny.gguf"
    path.write_bytes(build_tiny())
    return path


@pytest.fixture
def chat(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `g4 chat ...` and returns (exit code, standard output, standard error)."""
    monkeypatch.setenv("G4_HOME", str(home))

    def call(*args: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = run(["chat", *map(str, args)])
        return code, *capsys.readouterr()

    return call


@pytest.mark.slow
def test_the_answer_is_all_of_standard_output(chat: Any, tiny: Path) -> None:
    code, out, _ = chat(tiny, "-p", QUESTION, "--temp", 0)
    assert (code, out) == (0, ANSWER + "\n")


@pytest.mark.slow
def test_the_second_time_nothing_but_the_answer(chat: Any, tiny: Path) -> None:
    chat(tiny, "-p", "Hello", "-n", 1)
    assert chat(tiny, "-p", QUESTION, "--temp", 0) == (0, ANSWER + "\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("args", [[], ["-p", "-"]])
def test_a_question_from_standard_input(chat: Any, tiny: Path, args: list[str]) -> None:
    assert chat(tiny, "--temp", 0, *args, stdin=QUESTION + "\n")[:2] == (0, ANSWER + "\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("piped", "asked"),
    [
        ("one\ntwo\n", "one\ntwo\n\nSummarize:"),
        ("", "Summarize:"),
        (" \n", "Summarize:"),
    ],
)
def test_standard_input_goes_before_the_prompt(
    chat: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch, piped: str, asked: str
) -> None:
    questions = []

    def answer(_out: object, _session: object, question: str, *_: object) -> int:
        questions.append(question)
        return 0

    monkeypatch.setattr("g4cli.cli.chat.oneshot.answer_once", answer)
    assert chat(tiny, "-p", "Summarize:", stdin=piped)[0] == 0
    assert questions == [asked]


def test_endless_standard_input_is_refused(chat: Any, tiny: Path) -> None:
    code, _, err = chat(tiny, "-p", "Hi", stdin="x" * ((16 << 20) + 1))
    assert (code, "more than 16,777,216 characters" in err) == (2, True)


class TestWithoutAModel:
    @pytest.fixture
    def ask(self, chat: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Run `g4 chat` with a store of the test's own; what is known of the kernels is kept."""
        shutil.copytree(home, tmp_path / "home", ignore=shutil.ignore_patterns("models"))
        monkeypatch.setenv("G4_HOME", str(tmp_path / "home"))
        return chat

    def test_an_empty_store_says_what_to_type(self, ask: Any) -> None:
        code, out, err = ask("-p", QUESTION)
        assert (code, out) == (3, "")
        assert err == "error: no model is on this disk yet\nhint: g4 pull tiny, or g4 pull e2b\n"

    def test_the_one_pulled_last_answers(self, ask: Any, tiny: Path) -> None:
        dates = {"older": "2026-11-20T10:00:00Z", "newer": "2026-11-21T10:00:00Z"}
        for name, date in dates.items():
            folder = models_dir() / name
            folder.mkdir(parents=True)
            path = folder / f"{name}.gguf"
            path.write_bytes(tiny.read_bytes() if name == "newer" else b"GGUF cannot be talked to")
            manifest = {"format": 1, "name": name, "type": "bf16", "bytes": len(path.read_bytes())}
            path.with_name(path.name + ".json").write_text(
                json.dumps(
                    manifest | {"sha256": "", "date": date, "source": "found", "role": "model"}
                )
            )
        code, out, err = ask("-p", QUESTION, "--temp", 0)
        assert (code, out) == (0, ANSWER + "\n")
        assert err.startswith("newer:bf16: pulled last, of 2 here\n")


def test_json(chat: Any, tiny: Path) -> None:
    code, out, err = chat(tiny, "-p", QUESTION, "--temp", 0, "--json")
    data = json.loads(out)
    assert (code, err) == (0, "")
    assert set(data) == {
        "model", "sampling", "text", "thought", "finish_reason", "usage", "timing", "loop",
        "conversation",
    }  # fmt: skip
    assert (data["text"], data["thought"], data["finish_reason"]) == (ANSWER, "", "stop")
    assert data["loop"] is None
    assert data["model"] == str(tiny)
    assert data["sampling"]["temp"] == 0
    assert data["sampling"]["seed"] < 0xFFFFFFFF, "the one that was drawn"
    assert set(data["usage"]) == {"prompt_tokens", "cached_tokens", "completion_tokens"}
    assert data["usage"]["prompt_tokens"] == 19
    assert set(data["timing"]) == {"load_s", "prompt_tps", "decode_tps"}
    assert all(value > 0 for value in data["timing"].values())


@pytest.mark.slow
def test_quiet_gives_the_answer_alone(chat: Any, tiny: Path) -> None:
    assert chat(tiny, "-p", QUESTION, "--temp", 0, "-q", "--stats") == (0, ANSWER + "\n", "")


@pytest.mark.slow
def test_max_tokens(chat: Any, tiny: Path) -> None:
    _, out, _ = chat(tiny, "-p", QUESTION, "-n", 3, "--temp", 0, "--json")
    data = json.loads(out)
    assert data["finish_reason"] == "length"
    assert data["usage"]["completion_tokens"] == 3


@pytest.mark.slow
def test_thinking_goes_to_standard_error(chat: Any, tiny: Path) -> None:
    code, out, err = chat(tiny, "-p", QUESTION, "--temp", 0, "--think", "on")
    assert (code, out) == (0, ANSWER + "\n")
    assert err.strip()
    _, out, _ = chat(tiny, "-p", QUESTION, "--temp", 0, "--think", "on", "--json")
    assert json.loads(out)["thought"] == err.strip()
    _, _, err = chat(tiny, "-p", QUESTION, "--temp", 0, "--think", "on", "--thoughts", "hide")
    assert err == ""


@pytest.mark.slow
def test_stats(chat: Any, tiny: Path) -> None:
    _, _, err = chat(tiny, "-p", QUESTION, "--temp", 0, "--stats", "--ctx", 512)
    assert "prompt 19 of 19 tokens at " in err
    assert "/512" in err


@pytest.mark.slow
def test_resume(chat: Any, tiny: Path, tmp_path: Path) -> None:
    saved = tmp_path / "chat.json"
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi there!"}]
    saved.write_text(
        json.dumps({"format": "g4-chat", "version": 1, "system": "", "messages": turns})
    )
    _, out, _ = chat(tiny, "-p", QUESTION, "-n", 2, "--resume", saved, "--json")
    assert json.loads(out)["usage"]["prompt_tokens"] > 30


def test_a_chat_that_names_files_elsewhere_is_refused(
    chat: Any, tiny: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "chat.json"
    media = [{"kind": "image", "path": "/home/me/private.png"}]
    turns = [{"role": "user", "content": "Hi", "media": media}]
    saved.write_text(
        json.dumps({"format": "g4-chat", "version": 1, "system": "", "messages": turns})
    )
    code, out, err = chat(tiny, "-p", QUESTION, "--resume", saved)
    assert (code, out) == (2, "")
    assert "names files outside its folder: /home/me/private.png" in err
    assert f"hint: g4 chat --resume {saved}" in err


@pytest.fixture(scope="module")
def looping(home: Path) -> Path:
    path = home / "dashes.gguf"
    path.write_bytes(dashes(build_tiny()))
    return path


class TestLoops:
    def test_a_loop_is_stopped_with_its_reason_and_exit_code_9(
        self, chat: Any, looping: Path
    ) -> None:
        code, out, err = chat(looping, "-p", "Hello", "--temp", 0)
        assert code == 9
        assert out.startswith("---\n---\n")
        assert "stopped: the answer repeats '---\\n' (" in err
        assert f"g4 doctor {looping}" in err

    @pytest.mark.slow
    def test_json(self, chat: Any, looping: Path) -> None:
        code, out, _ = chat(looping, "-p", "Hello", "--temp", 0, "--json")
        data = json.loads(out)
        assert (code, data["finish_reason"]) == (9, "loop")
        assert set(data["loop"]) == {"unit", "period", "onset", "covered"}
        assert (data["loop"]["unit"], data["loop"]["period"], data["loop"]["onset"]) == (
            "---\n",
            2,
            0,
        )
        assert data["loop"]["covered"] <= data["usage"]["completion_tokens"]

    @pytest.mark.slow
    def test_it_may_go_on(self, chat: Any, looping: Path) -> None:
        code, _, err = chat(looping, "-p", "Hello", "--temp", 0, "--no-loop-stop", "-n", 900)
        truncated = "warning: the answer was truncated after 900 tokens (--max-tokens)\n"
        assert (code, err) == (0, truncated)


@pytest.mark.slow
def test_an_sfp8_archive_is_expanded_once(chat: Any, tiny: Path, home: Path) -> None:
    archive = home / "archive.gguf"
    assert (
        run(["quantize", str(tiny), str(archive), "--type", "sfp8", "--container", "archive"]) == 0
    )
    code, out, err = chat(archive, "-p", QUESTION, "--temp", 0, "-n", 12)
    assert code == 0
    assert "SFP8 archive" in err
    assert ANSWER.startswith(out.strip())
    copies = list((home / "cache" / "expanded").glob("*.gguf"))
    assert len(copies) == 1
    made = copies[0].stat().st_mtime_ns
    chat(archive, "-p", QUESTION, "-n", 1)
    assert copies[0].stat().st_mtime_ns == made


class TestErrors:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("args", "code", "said"),
        [
            (["no-such-model"], 3, "no-such-model"),
            (["./no/such/file.gguf"], 3, "no such file"),
            (["."], 2, "directory"),
            (["tiny.gguf", "-p", " "], 2, "the question is empty"),
            (["tiny.gguf", "--json"], 2, "the question is empty"),
            (["tiny.gguf", "-p", "x", "--ctx", "many"], 2, "not a number of tokens"),
            (["tiny.gguf", "-p", "x", "--gpu-layers", "many"], 2, "not a number of layers"),
            (["tiny.gguf", "-p", "x", "--device", "cuda7"], 2, "no device 'cuda7'"),
            (["tiny.gguf", "-p", "x", "--tools", "nowhere.json"], 3, "no such file"),
            (["tiny.gguf", "-p", "x", "--resume", "tiny.gguf"], 5, "not a chat saved by g4"),
            (["tiny.gguf", "-p", "word " * 600, "--ctx", "512"], 4, "the question alone has"),
            (["tiny.gguf", "-p", "x", "--kv-type", "q3"], 2, "kv-type"),
        ],
    )
    def test_one_clear_line_and_the_right_code(
        self,
        chat: Any,
        tiny: Path,
        monkeypatch: pytest.MonkeyPatch,
        args: list[str],
        code: int,
        said: str,
    ) -> None:
        monkeypatch.chdir(tiny.parent)
        args = [f"./{a}" if a == "tiny.gguf" else a for a in args]
        found, out, err = chat(*args)
        assert (found, out) == (code, "")
        assert said in err
        assert "Traceback" not in err

    def test_no_gguf(self, chat: Any, tmp_path: Path) -> None:
        text = tmp_path / "notes.gguf"
        text.write_text("hello, this is no model")
        code, _, err = chat(text, "-p", "x")
        assert code == 5
        assert "not a GGUF" in err

    @pytest.mark.slow
    def test_a_truncated_file(self, chat: Any, tmp_path: Path) -> None:
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(build_tiny()[:4_000_000])
        code, _, err = chat(cut, "-p", "x")
        assert code == 5
        assert "truncated" in err
        assert f"g4 doctor {cut}" in err

    @pytest.mark.slow
    @pytest.mark.requires_vocab
    def test_a_vocabulary_is_no_model(self, chat: Any, vocab_file: Path) -> None:
        code, _, err = chat(vocab_file, "-p", "x")
        assert code == 5
        assert "no weights" in err


@pytest.mark.slow
def test_tool_calls_are_json(chat: Any, tiny: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text(
        json.dumps([{"type": "function", "function": {"name": "now", "description": "Time"}}])
    )
    code, out, _ = chat(tiny, "-p", QUESTION, "--tools", tools, "-n", 5, "--temp", 0, "--json")
    assert code == 0
    # Declared tools are part of the prompt.
    assert json.loads(out)["usage"]["prompt_tokens"] > 30


@pytest.mark.parametrize(
    ("loop", "said"),
    [
        (
            FoundLoop("ab ", 2, 99, 300),
            "stopped: the answer repeats 'ab ' (150 times, 300 tokens, from token 100)",
        ),
        (
            FoundLoop("x" * 99, 90, 500, 400, "noisy"),
            "x...' with small changes (4 times, 400 tokens, from token 501)",
        ),
        (
            FoundLoop("a 1", 10, 500, 900, "counter"),
            "repeats 'a 1' while a number counts (90 times, 900 tokens, from token 501)",
        ),
        (
            FoundLoop("ab", 2, 500, 384, "few-tokens"),
            "repeats the same 2 tokens, such as 'ab' (384 tokens, from token 501)",
        ),
        (
            FoundLoop("ab", 9, 500, 768, "few-phrases"),
            "repeats a few phrases, such as 'ab' (768 tokens, from token 501)",
        ),
    ],
)
def test_why_an_answer_was_stopped(loop: FoundLoop, said: str) -> None:
    text = describe_loop(loop, "model.gguf")
    assert said in text
    assert "--on-loop retry continues it in another way" in text
    assert text.endswith("--no-loop-stop lets it go on")
    early = describe_loop(replace(loop, onset=0), "model.gguf")
    assert early.endswith("g4 doctor model.gguf")

"""g4 chat in scripts: files of prompts, JSON lines, code blocks, stop texts, dialogues."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from g4cli.cli.main import run
from g4cli.store.conversations.store import ConversationStore
from tests.support.builders.tiny_file import build_tiny
from tests.support.schemas import validate_output

QUESTION = "What is Q4_0?"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "tiny.gguf").write_bytes(build_tiny())
    return folder


@pytest.fixture
def chat(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `g4 chat tiny.gguf --temp 0 ...`; returns exit code, standard output and error."""
    monkeypatch.setenv("G4_HOME", str(home))

    def call(*args: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = run(["chat", str(home / "tiny.gguf"), "--temp", "0", *map(str, args)])
        return code, *capsys.readouterr()

    return call


def grammar_for(tmp_path: Path, text: str) -> Path:
    """Return a grammar whose only sentence is `text`."""
    path = tmp_path / "only.gbnf"
    path.write_text(f"root ::= {json.dumps(text)}\n")
    return path


@pytest.mark.slow
def test_a_prompt_and_a_system_prompt_from_files(chat: Any, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text(QUESTION)
    (tmp_path / "s.txt").write_text("Answer briefly.")
    plain = chat("-p", QUESTION, "-n", 5, "--system", "Answer briefly.", "--json")[1]
    code, out, _ = chat(
        "-p", f"@{tmp_path}/q.txt", "-n", 5, "--system", f"@{tmp_path}/s.txt", "--json"
    )
    assert code == 0
    assert json.loads(out)["usage"] == json.loads(plain)["usage"]
    assert json.loads(out)["text"] == json.loads(plain)["text"]
    code, _, err = chat("-p", "@nowhere")
    assert (code, "no such file" in err, "hint: for a text" in err) == (3, True, True)


@pytest.mark.slow
def test_output_and_stop(chat: Any, tmp_path: Path) -> None:
    whole = chat("-p", QUESTION)[1]
    stop = whole.split()[3]
    code, out, _ = chat("-p", QUESTION, "--stop", stop, "--stop", "zzz", "-o", tmp_path / "a.txt")
    assert (code, out) == (0, "")
    assert (tmp_path / "a.txt").read_text().strip() == whole.partition(stop)[0].strip()


@pytest.mark.slow
def test_only_the_code(chat: Any, tmp_path: Path) -> None:
    answer = "Here:\n```sh\nls -l\n```\nDone."
    grammar = grammar_for(tmp_path, answer)
    assert chat("-p", "x", "-x", "--grammar", grammar)[:2] == (0, "ls -l\n")
    code, _, _ = chat("-p", "x", "-x", "--grammar", grammar, "-o", tmp_path / "a.sh")
    assert (code, (tmp_path / "a.sh").read_text()) == (0, "ls -l\n")
    code, out, err = chat("-p", "x", "-x", "--grammar", grammar_for(tmp_path, "No code."))
    assert (code, out) == (3, "")
    assert "the answer has no code block" in err


@pytest.mark.slow
def test_json_lines_with_log_probabilities(chat: Any) -> None:
    code, out, _ = chat("-p", QUESTION, "--stream-json", "--logprobs", 2)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert rows[0]["type"] == "start"
    assert rows[-1]["type"] == "end"
    texts = [row for row in rows if row["type"] == "text"]
    assert "".join(row["text"] for row in texts) == chat("-p", QUESTION)[1].rstrip("\n")
    tokens = [token for row in texts for token in row.get("tokens", ())]
    assert len(tokens) >= rows[-1]["usage"]["completion_tokens"] - 1
    assert all(token["logprob"] <= 0 and len(token["top_logprobs"]) == 2 for token in tokens)
    assert tokens[0]["top_logprobs"][0]["id"] == tokens[0]["id"], "greedy"
    data = json.loads(chat("-p", QUESTION, "--json", "--logprobs", 0)[1])
    assert [token["id"] for token in data["logprobs"]] == [token["id"] for token in tokens]


@pytest.mark.slow
def test_a_loop_is_an_event(chat: Any, tmp_path: Path) -> None:
    grammar = tmp_path / "endless.gbnf"
    grammar.write_text('root ::= "drip " root\n')
    code, out, _ = chat("-p", "x", "--stream-json", "--grammar", grammar)
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, [row["type"] for row in rows[-2:]]) == (9, ["loop", "end"])


@pytest.mark.slow
def test_a_dialogue(chat: Any, home: Path) -> None:
    first = json.loads(chat("-p", "What is GGUF?", "--json")[1])
    second = json.loads(chat("-c", "-p", QUESTION, "--json")[1])
    assert second["conversation"] == first["conversation"]
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"] + 10
    with ConversationStore.open(home / "state" / "conversations.db") as store:
        stored = store.load(first["conversation"])
    roles = [message.role for message in stored.messages]
    assert roles == ["user", "assistant"] * 2
    assert stored.turns[1].figures["completion_tokens"] == first["usage"]["completion_tokens"]
    assert "conversation" not in json.loads(chat("-p", "Hi", "--private", "--json")[1])
    code, _, err = chat("-c", "--prompts", "p.jsonl", "-o", "a.jsonl")
    assert (code, "cannot be used with --continue" in err) == (2, True)


@pytest.mark.slow
def test_many_prompts_with_one_load(chat: Any, tmp_path: Path) -> None:
    prompts, output = tmp_path / "p.jsonl", tmp_path / "a.jsonl"
    rows = [{"id": "a", "prompt": QUESTION}, {"id": "b", "prompt": "What is GGUF?"}]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = chat("--prompts", prompts, "--output", output, "--json")
    assert (code, json.loads(out)["answered"]) == (0, 2)
    answers = {row["id"]: row for row in map(json.loads, output.read_text().splitlines())}
    assert answers["a"]["text"] == chat("-p", QUESTION)[1].strip()
    # An answer that an interruption cut off is given again, one for another prompt too.
    lines = output.read_text().splitlines()
    output.write_text(lines[0] + "\n" + lines[1][:20])
    prompts.write_text(prompts.read_text() + json.dumps({"id": "c", "prompt": "Hello"}) + "\n")
    code, _, err = chat("--prompts", prompts, "--output", output)
    assert (code, "1 of 3 prompts is answered already" in err) == (0, True)
    found = output.read_text().splitlines()
    assert [json.loads(line)["id"] for line in found] == ["a", "b", "c"]
    assert json.loads(found[1])["text"] == answers["b"]["text"]


@pytest.mark.slow
def test_prompts_that_are_answered_at_once(chat: Any, tmp_path: Path) -> None:
    """They stand in the order of the prompts; one was there before, another was cut off."""
    prompts, output, alone = tmp_path / "p.jsonl", tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    # The answer to the first is the longest, so that it is complete after others.
    asked = ("What is GGUF?", QUESTION, "Hello", "What is a token?", QUESTION + " ")
    rows = [{"id": i, "prompt": text, "system": "Be brief."} for i, text in enumerate(asked)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, _ = chat("--prompts", prompts, "--output", alone, "--parallel", 1, "--logprobs", 1)
    assert code == 2, "without --json"
    code, _, _ = chat("--prompts", prompts, "--output", alone, "--parallel", 1)
    assert code == 0
    before = alone.read_text().splitlines()
    output.write_text(f"{before[3]}\n{before[1][:30]}")
    code, out, _ = chat("--prompts", prompts, "--output", output, "--parallel", 3, "--json")
    assert (code, json.loads(out)["answered"]) == (0, 5)
    lines = list(map(json.loads, output.read_text().splitlines()))
    assert [row["id"] for row in lines] == ["0", "1", "2", "3", "4"]
    # The network is sure of these two, whatever the last bits of what is computed together.
    assert [row["text"] for row in lines[:2]] == [json.loads(line)["text"] for line in before[:2]]
    assert output.stat().st_mode & 0o777 == 0o600
    # Nothing is missing: no model is loaded.
    code, _, err = chat("--prompts", prompts, "--output", output, "--ctx", "max")
    assert (code, err.count("answered already"), "largest that fits" in err) == (0, 1, False)


@pytest.mark.slow
@pytest.mark.parametrize("n_parallel", [1, 2])
def test_a_prompt_that_is_too_long_ends_no_run(chat: Any, tmp_path: Path, n_parallel: int) -> None:
    prompts, output = tmp_path / "p.jsonl", tmp_path / "a.jsonl"
    rows = [{"id": "b", "prompt": QUESTION}, {"prompt": "Hi " * 2000}, {"id": "a", "prompt": "Hi"}]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--prompts", prompts, "--output", output, "--ctx", 1024, "--parallel", n_parallel)
    for _ in range(2):  # the second time it is the only one that has no answer yet
        code, out, err = chat(*options, "--json")
        assert (code, json.loads(out)["answered"]) == (4, 2), err
        assert "line-2 has no answer: " in err
        found = output.read_text().splitlines()
        assert [json.loads(line)["id"] for line in found] == ["b", "a"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-p", "x", "--parallel", "2"], "--parallel needs --prompts"),
        (["-p", "x", "--logprobs", "1"], "--logprobs needs --json or --stream-json"),
        (["-p", "x", "--stream-json", "-x"], "--stream-json cannot be used with"),
        (["--prompts", "p.jsonl"], "--prompts needs --output"),
        (["--prompts", "p.jsonl", "-p", "x"], "--prompts and --prompt cannot be used together"),
        (["--prompts", "p.jsonl", "-o", "a", "--image", "a.png"], "cannot be used with --image"),
        (["-c", "--resume", "1", "-p", "x"], "--continue and --resume cannot be used together"),
    ],
)
def test_options_that_contradict(chat: Any, args: list[str], message: str) -> None:
    code, out, err = chat(*args)
    assert (code, out, message in err) == (2, "", True), err


@pytest.mark.parametrize("option", ["--json", "--stream-json"])
def test_with_json_an_error_is_json(chat: Any, option: str) -> None:
    code, out, err = chat("-p", "x", option, "--max-tokens", "few")
    document = json.loads(err)
    validate_output(document, "error")
    assert (code, out, document["error"]["exit_code"]) == (2, "", 2)


@pytest.mark.slow
def test_an_output_of_something_else_is_refused(chat: Any, tmp_path: Path) -> None:
    prompts, output = tmp_path / "p.jsonl", tmp_path / "notes.txt"
    prompts.write_text(json.dumps({"prompt": "Hi"}))
    output.write_text("precious\n")
    code, _, err = chat("--prompts", prompts, "--output", output)
    assert (code, "does not hold answers" in err) == (5, True)
    assert output.read_text() == "precious\n"

"""Tools in `g4 chat`: tiny is made to call one, by a grammar that allows nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from g4cli.cli.main import run
from g4cli.operations.chat import inputs, session
from g4cli.prompt.answer_grammar import make_grammar
from g4cli.runtime.engine.messages import RunTurn
from tests.support.builders.tiny_file import build_tiny

FUNCTIONS = """
def color(name: str) -> str:
    "Returns a color."
    return "\\x1b[31mred"
"""


@pytest.fixture
def args(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The answer is always a call of the one tool, with the same arguments."""

    def force_calls(tools: Any) -> str:
        for tool in tools:
            tool["function"]["parameters"]["properties"] = {"name": {"enum": ["x"]}}
        return make_grammar(None, tools, several=False)

    monkeypatch.setattr(inputs, "make_call_grammar", force_calls)
    (tmp_path / "tiny.gguf").write_bytes(build_tiny())
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    # The scope "calls" would leave it to the model whether to call.
    monkeypatch.setattr(session, "RunTurn", lambda *values: RunTurn(*values[:4], "all"))
    path, tools = str(tmp_path / "tiny.gguf"), str(tmp_path / "mine.py")
    return ["chat", path, "-p", "Which color?", "--temp", "0", "-n", "80", "--tools", tools]


@pytest.mark.slow
def test_a_call_that_is_made_again_and_again_is_a_loop(
    args: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*args, "--yes", "color"]) == 9
    captured = capsys.readouterr()
    assert "it called color with the same arguments 3 times" in captured.err
    assert captured.err.count("color: ") >= 2
    assert "\x1b" not in captured.err + captured.out


@pytest.mark.slow
def test_nothing_runs_without_consent(args: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(args) == 9
    assert "color was not run: nobody is there to allow it (--yes color)" in capsys.readouterr().err


@pytest.mark.slow
def test_rounds(args: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*args, "--yes", "color", "--max-tool-rounds", "1"]) == 9
    assert "has called tools in 1 round" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--yes current_time", "--max-tool-rounds 10"])
def test_an_option_of_tools_needs_one(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chat", "tiny", "-p", "x", *option.split()]) == 2
    assert f"{option.split()[0]} needs a tool that g4 runs" in capsys.readouterr().err


def test_declared_tools_and_tools_that_run_exclude_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.json").write_text("[]")
    command = ["chat", "tiny", "-p", "x", "--tools", str(tmp_path / "t.json"), "--builtin", "time"]
    assert run(command) == 2
    assert "declares what g4 does not run" in capsys.readouterr().err

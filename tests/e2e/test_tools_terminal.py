"""Calls of tools in a real pseudo-terminal: what is asked before one runs, and what is shown."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders.tiny_file import build_tiny
from tests.support.paths import ROOT
from tests.support.run.terminal import PATIENCE_S, Terminal

FILE = """
import time

def paint(color: str) -> str:
    "Paints the house."
    with open("painted", "a") as file:
        file.write(color + "\\n")
    return "\\x1b[31mpainted " + color

def wait(seconds: int) -> str:
    open("waiting", "w").close()
    time.sleep(seconds)
"""


def call(color: str) -> dict[str, Any]:
    return {"call": "paint", "arguments": {"color": color}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.gguf").write_bytes(build_tiny())
    (tmp_path / "house.py").write_text(FILE)
    return tmp_path


def make_command(folder: Path, *answers: dict[str, Any]) -> list[str]:
    """Return the command of a chat whose model gives these answers in turn."""
    (folder / "script.json").write_text(json.dumps(answers))
    return [
        sys.executable, "-c",
        f"import os, runpy, sys; sys.path.insert(0, {str(ROOT)!r}); os.chdir({str(folder)!r}); "
        "runpy.run_module('tests.support.fakes.calling_chat', run_name='__main__', alter_sys=True)",
        "script.json", "chat", "tiny.gguf", "--temp", "0", "--tools", "house.py",
    ]  # fmt: skip


@pytest.fixture
def talk(folder: Path) -> Callable[..., Terminal]:
    def start(*answers: dict[str, Any], args: tuple[str, ...] = ()) -> Terminal:
        env = {"G4_HOME": str(folder), "NO_COLOR": "1", "COLUMNS": "80"}
        command = [*make_command(folder, *answers), *args]
        terminal = Terminal(command, env, keeps_output=True)
        terminal.wait_for("ask something, or /help")
        return terminal

    return start


def painted(folder: Path) -> list[str]:
    path = folder / "painted"
    return path.read_text().split() if path.exists() else []


def test_each_call_is_asked_for_until_always(talk: Callable[..., Terminal], folder: Path) -> None:
    colors = ("red", "green", "blue", "white")
    with talk(*map(call, colors), {"text": "All is painted."}) as t:
        t.enter("Paint the house.")
        t.wait_for('paint {"color": "red"}  (house.py)')
        assert "tool_call" not in t.text  # it is shown once
        t.wait_for("run paint? [y]es, [N]o, [a]lways in this chat:")
        assert painted(folder) == []
        t.enter("what?")
        t.wait_for("run paint?", count=2)
        t.enter("y")
        t.wait_for("paint: ")
        t.wait_for("run paint?", count=3)
        t.enter("n")
        t.wait_for("paint: error: the user did not allow this call")
        t.wait_for("run paint?", count=4)
        t.enter("a")
        t.wait_for("All is painted.")
        assert t.text.count("run paint?") == 4
        assert t.text.count("(house.py)") == 4  # the last call too, which needed no consent
        assert "tool_call" not in t.text
        assert painted(folder) == ["red", "blue", "white"]
        assert b"\x1b[31m" not in t.raw
        t.wait_for(">>>", count=2)
        t.enter("/exit")
        assert t.wait_end() == 0


@pytest.mark.slow
def test_ctrl_c_at_the_question_means_no_and_in_a_call_ends_it(
    talk: Callable[..., Terminal], folder: Path
) -> None:
    waiting = {"call": "wait", "arguments": {"seconds": 600}}
    with talk(call("red"), waiting, {"text": "As you like."}, args=("--yes", "wait")) as t:
        t.enter("Paint the house.")
        t.wait_for("run paint?")
        t.wait_until_it_reads()
        t.send("\x03")
        t.wait_for("paint: error: the user did not allow this call")
        t.wait_for('wait {"seconds": 600}')
        end = time.monotonic() + PATIENCE_S
        while not (folder / "waiting").exists() and time.monotonic() < end:
            time.sleep(0.01)
        t.send("\x03")
        t.wait_for("wait: error: the user stopped this call")
        t.wait_for("As you like.")
        t.wait_for(">>>", count=2)
        assert painted(folder) == []


@pytest.mark.slow
def test_a_loop_in_a_chat_costs_the_answer_alone(
    talk: Callable[..., Terminal], folder: Path
) -> None:
    with talk(call("red"), call("red"), call("red"), {"text": "Sorry."},
              args=("--yes", "paint")) as t:  # fmt: skip
        t.enter("Paint the house.")
        t.wait_for("error: the model is in a loop: it called paint with the same")
        t.wait_for(">>>", count=2)
        assert painted(folder) == ["red", "red"]
        t.enter("Well?")
        t.wait_for("Sorry.")


@pytest.mark.slow
def test_in_a_script_only_named_tools_run(folder: Path) -> None:
    answers = (call("red"), {"text": "It is done."})
    for yes, said in (((), "nobody is there to allow it"), (("--yes", "paint"), "painted red")):
        command = [*make_command(folder, *answers), "-p", "Paint the house.", *yes]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "It is done.\n"), done.stderr
        assert said in done.stderr
        assert painted(folder) == (["red"] if yes else [])

"""Completion of values in real shells: Tab in bash and zsh, `complete -C` in fish."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from g4cli.core.paths import config_path
from g4cli.store.conversations.store import ConversationStore
from tests.support.run.command import run
from tests.support.run.terminal import Terminal

pytestmark = pytest.mark.slow

# What is typed before Tab, and what the line is after it.
CASES = [
    ("g4 remo", "g4 remove"),
    ("g4 pull 26b:sf", "g4 pull 26b:sfp8"),
    ("g4 fit gem", "g4 fit gem"),  # not a name that is offered
    ("g4 chat ti", "g4 chat tiny"),
    ("g4 run tiny:b", "g4 run tiny:bf16"),
    ("g4 chat @rev", "g4 chat @reviewer"),
    ("g4 chat wo", "g4 chat work"),
    ("g4 chat answ", "g4 chat answers.gguf"),
    ("g4 quantize tiny --type q5_k_m", "g4 quantize tiny --type q5_k_m"),
    ("g4 convert x --type mx", "g4 convert x --type mxfp4"),
    ("g4 doctor x --only keys.sh", "g4 doctor x --only keys.shape"),
    ("g4 chats show la", "g4 chats show last"),
    ("g4 chat --think med", "g4 chat --think medium"),
    ("g4 rm ti", "g4 rm tiny"),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a file, a store with tiny, a config with an alias and a preset."""
    run(["pull", "tiny", "--quiet"])
    config_path().parent.mkdir(parents=True, exist_ok=True)
    config_path().write_text('[aliases]\nwork = "31b:q4_0"\n[presets.reviewer]\nmodel = "tiny"\n')
    with ConversationStore.open() as store:
        store.rename(store.create(), "first")
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "answers.gguf").write_bytes(b"")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def press_tab(shell: list[str], setup: list[str]) -> list[str]:
    """Return the lines after Tab, for each of CASES."""
    lines = []
    with Terminal(shell, {"PS1": "> ", "PROMPT": "> "}, columns=100) as terminal:
        for line in setup:
            terminal.enter(line)
        terminal.enter("echo is-rea'dy'")
        terminal.wait_for("is-ready")
        for number, (typed, _) in enumerate(CASES):
            terminal.send(f"{typed}\t")
            # The shell reads the next keys when the completion is done: the line is printed.
            terminal.send(f"\x01echo '<{number}> \x05'\r")
            terminal.wait_for(f"<{number}> ", count=2)  # as it was typed, and as it is printed
            lines.append(terminal.text.rpartition(f"<{number}> ")[2].partition("\n")[0].strip())
    return lines


def check_completions(lines: list[str]) -> None:
    assert lines == [after for _, after in CASES]


@pytest.mark.requires_bash
@pytest.mark.usefixtures("place")
def test_bash() -> None:
    check_completions(
        press_tab(
            ["bash", "--norc", "--noprofile", "-i"],
            ["source <(g4 --show-completion bash)", "bind 'set bell-style none'"],
        )
    )


@pytest.mark.requires_zsh
@pytest.mark.usefixtures("place")
def test_zsh() -> None:
    check_completions(
        press_tab(
            ["zsh", "-f", "-i"],
            ["autoload -Uz compinit; compinit -u -D", "source <(g4 --show-completion zsh)",
             "setopt interactivecomments; unsetopt beep"],
        )
    )  # fmt: skip


@pytest.mark.requires_fish
@pytest.mark.usefixtures("place")
def test_fish() -> None:
    found = []
    for typed, _ in CASES:
        script = f"source (g4 --show-completion fish | psub); complete -C '{typed}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True
        )
        words = [line.partition("\t")[0] for line in done.stdout.splitlines()]
        head = typed.rpartition(" ")[0]
        found.append(f"{head} {words[0]}" if len(words) == 1 else typed)
    check_completions(found)

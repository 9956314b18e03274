"""Help pages show FILE, N and TEXT, never the names of Python's types."""

from __future__ import annotations

import re

import pytest

from g4cli.cli.main import COMMANDS, run


@pytest.mark.slow
@pytest.mark.parametrize("command", ["", *(name for name, *_ in COMMANDS)])
def test_no_type_of_python_is_shown(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert run([*command.split(), "--help"]) == 0
    page = capsys.readouterr().out
    assert not re.search(r"<(bool|str|int|float|path|list)\b|\blist\[|\bint range", page)
    assert "Show this message and exit." in page


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("pull", "g4 pull [OPTIONS] MODEL\n"),
        ("verify", "g4 verify [OPTIONS] [MODEL]\n"),
        ("show", "g4 show [OPTIONS] MODEL [OTHER]\n"),
        ("svg fix", "g4 svg fix [OPTIONS] FILE [OUT]\n"),
        ("serve", "g4 serve [OPTIONS] [MODEL]..."),
    ],
)
def test_the_usage_line_shows_arguments_as_command_lines_do(
    command: str,
    usage: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run([*command.split(), "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert f"Usage: {usage.strip()}" in lines


@pytest.mark.slow
def test_values_have_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    run(["chat", "--help"])
    page = capsys.readouterr().out
    for option, value in (
        ("--image", "FILE"),
        ("--seed", "N"),
        ("--think", "off|on|low|medium|high"),
        ("--prompt", "TEXT"),
    ):
        assert re.search(rf"{option}\s+(-\w\s+)?{re.escape(value)}\s", page), option


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("rm", "Remove a model"), ("ls", "List the models"), ("run", "Chat with a model"),
     ("cp", "Give a model"),
     ("chats rm", "Delete conversations"), ("chats ls", "List the saved")],
)  # fmt: skip
def test_names_of_other_programs(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*typed.split(), "--help"]) == 0
    assert meant in capsys.readouterr().out


def test_commands_are_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    page = capsys.readouterr().out
    at = [page.index(f" {title} ") for title in
          ("Get models", "Run models", "Make models", "Examine")]  # fmt: skip
    assert at == sorted(at)
    assert all(f" {name.split()[0]} " in page for name, *_ in COMMANDS)

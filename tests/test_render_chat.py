"""Streamed Markdown: which blocks are final, and that a long answer is drawn once, whole."""

from __future__ import annotations

import pyte
import pytest
from rich.console import Console

from g4cli.chat import PromptRead
from g4cli.cli.output import Output
from g4cli.cli.views.chat import MarkdownView, Region, split_blocks
from g4cli.prompt.messages import ToolCall
from g4cli.prompt.reply import AnswerText, CallMade, ThoughtEnded, ThoughtText


@pytest.mark.parametrize(
    ("text", "done", "rest"),
    [
        ("", [], ""),
        ("one", [], "one"),
        ("one\n\n", [], "one\n\n"),
        ("one\n\ntwo", ["one"], "two"),
        ("one\ntwo\n\nthree\n\nfour", ["one\ntwo", "three"], "four"),
        ("- a\n\n  more of a", [], "- a\n\n  more of a"),
        ("- a\n\n  more\n\nend", ["- a\n\n  more"], "end"),
        ("```\na\n\nb\n", [], "```\na\n\nb\n"),
        ("```\na\n\nb\n```\n\nend", ["```\na\n\nb\n```"], "end"),
        ("~~~\n```\n\nx\n~~~\n\ny", ["~~~\n```\n\nx\n~~~"], "y"),
        ("one\n\n\n\ntwo", ["one"], "two"),
        ("\n\none\n\ntwo", ["one"], "two"),
    ],
)
def test_blocks(text: str, done: list[str], rest: str) -> None:
    assert split_blocks(text) == (done, rest)


@pytest.mark.parametrize("step", [1, 2, 7])
def test_blocks_are_the_same_however_the_text_arrives(step: int) -> None:
    text = "# T\n\npara one\nline\n\n- a\n- b\n\n  more\n\n```py\nx = 1\n\ny = 2\n```\n\nlast"
    whole, rest = split_blocks(text)
    blocks, pending = [], ""
    for start in range(0, len(text), step):
        done, pending = split_blocks(pending + text[start : start + step])
        blocks += done
    assert (blocks, pending) == (whole, rest)


class Screen:
    """An emulated terminal that a view draws on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: int = 12) -> None:
        self.screen = pyte.HistoryScreen(60, rows, history=500, ratio=0.1)
        self.stream = pyte.Stream(self.screen)
        self.sent: list[str] = []
        self.out = Output()
        console = Console(file=self, width=60, height=rows, force_terminal=True, no_color=True)  # type: ignore[arg-type]
        monkeypatch.setattr(self.out, "console", lambda **_: console)
        monkeypatch.setattr(self.out, "murmur", self.write)
        monkeypatch.setattr("g4cli.cli.views.chat._REDRAW_S", 0.0)

    def write(self, text: str) -> int:
        self.sent.append(text)
        self.stream.feed(text.replace("\n", "\r\n"))
        return len(text)

    def flush(self) -> None:
        pass

    @property
    def lines(self) -> list[str]:
        past = ["".join(line[x].data for x in range(60)) for line in self.screen.history.top]
        return [line.rstrip() for line in (*past, *self.screen.display)]


def test_a_long_answer_is_there_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the screen, redrawn at every token: the scroll-back holds each line exactly once."""
    screen = Screen(monkeypatch)
    words = [f"w{i}" for i in range(400)]
    with MarkdownView(screen.out, "show") as view:
        for index, word in enumerate(words):
            view.show(AnswerText(word + ("\n\n" if index % 50 == 49 else " ")))
    assert " ".join(screen.lines).split() == words


def test_a_code_block_longer_than_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    code = "".join(f"line_{i} = {i}\n" for i in range(40))
    with MarkdownView(screen.out, "show") as view:
        for piece in ("```python\n", *code.splitlines(keepends=True), "```\n\n", "Done."):
            view.show(AnswerText(piece))
    shown = [line.strip() for line in screen.lines if line.strip()]
    assert shown == [*code.splitlines(), "Done."]


def test_only_changed_lines_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    region = Region(screen.out.console())
    region.draw(["one", "two", "three"])
    screen.sent.clear()
    region.draw(["one", "two", "three and more"])
    assert "one" not in screen.sent[0]
    assert "two" not in screen.sent[0]
    assert "three and more" in screen.sent[0]
    screen.sent.clear()
    region.draw(["one", "two", "three and more"])
    assert screen.sent == []
    region.clear()
    assert [line for line in screen.lines if line] == []


@pytest.mark.parametrize(("mode", "shown"), [("show", True), ("fold", False), ("hide", False)])
def test_thoughts(monkeypatch: pytest.MonkeyPatch, mode: str, shown: bool) -> None:
    screen = Screen(monkeypatch)
    said: list[str] = []
    monkeypatch.setattr(screen.out, "say", said.append)
    with MarkdownView(screen.out, mode) as view:
        for event in (
            PromptRead(3, 0, 0.1),
            ThoughtText("secret"),
            ThoughtEnded(),
            AnswerText("open"),
        ):
            view.show(event)
    text = "\n".join(screen.lines)
    assert ("secret" in text) == shown
    assert "open" in text
    assert [line.startswith("thought for ") for line in said] == ([True] if mode == "fold" else [])


def test_control_characters_of_a_model_are_shown_not_obeyed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Screen(monkeypatch)
    with MarkdownView(screen.out, "show") as view:
        view.show(AnswerText("a\x1b]0;owned\x07b\x1b[2Jc"))
    assert screen.screen.title != "owned"
    assert "\\x1b" in "\n".join(screen.lines)


def test_a_tool_call_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    with MarkdownView(screen.out, "show") as view:
        view.show(AnswerText("Let me look."))
        view.show(CallMade(ToolCall("weather", {"town": "Bonn"})))
    text = " ".join(" ".join(screen.lines).split())
    assert '{"tool_call": {"name": "weather", "arguments": {"town": "Bonn"}}}' in text
    assert text.count("Let me look.") == 1


def test_nothing_is_left_behind_by_an_empty_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    with MarkdownView(screen.out, "show"):
        pass
    assert [line for line in screen.lines if line] == []

"""Streamed Markdown: what is final, that no text is lost, and that each line is drawn once."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.style import Style

from g4cli.chat import PromptRead
from g4cli.cli.output import Output
from g4cli.cli.views.blocks import BlockReader, CodeBegin, CodeLine, Piece, TextBlock
from g4cli.cli.views.chat import MarkdownView, Region
from g4cli.cli.views.code import Highlighter
from g4cli.cli.views.plain_chat import PlainView
from g4cli.prompt.messages import ToolCall
from g4cli.prompt.reply import AnswerText, CallMade, ThoughtEnded, ThoughtText


def pieces_of(text: str, step: int = 10_000) -> tuple[list[Piece], list[Piece]]:
    """The pieces that are finished by `text`, and those that its end finishes."""
    reader = BlockReader()
    done: list[Piece] = []
    for start in range(0, len(text), step):
        done += reader.feed(text[start : start + step])
    return done, reader.finish()


@pytest.mark.parametrize(
    ("text", "done", "rest"),
    [
        ("", [], []),
        ("one", [], [TextBlock("one")]),
        ("one\n\n", [], [TextBlock("one")]),
        ("one\n\ntwo\n", [TextBlock("one")], [TextBlock("two", gap=True)]),
        ("# T\none", [TextBlock("# T")], [TextBlock("one")]),
        ("- a\n- b\n", [TextBlock("- a")], [TextBlock("- b")]),
        ("- a\n\n  more\n\nend\n", [TextBlock("- a\n\n  more")], [TextBlock("end", gap=True)]),
        ("- a\n  - b\n", [], [TextBlock("- a\n  - b")]),
        ("so:\n- a\n", [TextBlock("so:")], [TextBlock("- a")]),
        ("in\n1986. A year\n", [], [TextBlock("in\n1986. A year")]),
        ("```py\na\n\n  b\n", [CodeBegin("py"), *map(CodeLine, ("a", "", "  b"))], []),
        ("```\na\n```\nend", [CodeBegin(""), CodeLine("a")], [TextBlock("end")]),
        ("~~~\n```\n~~~\n\ny", [CodeBegin(""), CodeLine("```")], [TextBlock("y", gap=True)]),
        ("```x``` y", [], [TextBlock("```x``` y")]),
        (
            "1. a\n   ```sh\n   ls\n     -l\n   ```\n   then\n2. b\n",
            [
                TextBlock("1. a"),
                CodeBegin("sh"),
                *map(CodeLine, ("ls", "  -l")),
                TextBlock("then", indent=3),
            ],
            [TextBlock("2. b")],
        ),
        ("- ```\n  x\n\n  ```\n- b\n", [TextBlock("- ```\n  x\n\n  ```")], [TextBlock("- b")]),
    ],
)
@pytest.mark.parametrize("step", [1, 3, 10_000])
def test_pieces(text: str, done: list[Piece], rest: list[Piece], step: int) -> None:
    assert pieces_of(text, step) == (done, rest)


class Screen:
    """An emulated terminal that a view draws on."""

    def __init__(self, columns: int = 60, rows: int = 12, *, redraw: bool = True) -> None:
        self.columns = columns
        self.screen = pyte.HistoryScreen(columns, rows, history=5000, ratio=0.1)
        self.stream = pyte.Stream(self.screen)
        self.sent: list[str] = []
        self.out = Output()
        self.console = Console(
            file=self,  # type: ignore[arg-type]
            width=columns,
            height=rows,
            force_terminal=True,
            no_color=True,
        )
        self.out.console = lambda **_: self.console  # type: ignore[method-assign]
        self.out.write_thought = self.write  # type: ignore[assignment,method-assign]
        self._ticks, self._tick = 0.0, 1.0 if redraw else 0.0

    def clock(self) -> float:
        """A clock by which the pause after a redraw is always over."""
        self._ticks += self._tick
        self._tick *= 64
        return self._ticks

    def view(self, thoughts: str = "show") -> MarkdownView:
        return MarkdownView(self.out, thoughts, self.clock)

    def show(self, text: str, step: int = 3) -> None:
        with self.view() as view:
            for start in range(0, len(text), step):
                view.show(AnswerText(text[start : start + step]))

    def write(self, text: str) -> int:
        self.sent.append(text)
        self.stream.feed(text.replace("\n", "\r\n"))
        return len(text)

    def flush(self) -> None:
        pass

    def resize(self, columns: int) -> None:
        """Make the window narrower and wrap lines that are too long, as most terminals do."""
        lines = self.lines
        while lines and not lines[-1]:
            lines.pop()
        self.columns = self.console.width = columns
        self.screen = pyte.HistoryScreen(columns, self.screen.lines, history=5000, ratio=0.1)
        self.stream = pyte.Stream(self.screen)
        self.stream.feed("".join(f"{line}\r\n" for line in lines))

    @property
    def lines(self) -> list[str]:
        past = [
            "".join(line[x].data for x in range(self.columns)) for line in self.screen.history.top
        ]
        return [line.rstrip() for line in (*past, *self.screen.display)]

    @property
    def words(self) -> list[str]:
        return " ".join(self.lines).split()


def content(text: str) -> Counter[str]:
    return Counter(c for c in text if not c.isspace())


# What the screen must hold, in order, blanks aside.
SAMPLES = {
    "<note>\n  <to>Tove</to>\n</note>": "<note><to>Tove</to></note>",
    "Call __init__ with <url> and $HOME/<name>.": "Call__init__with<url>and$HOME/<name>.",
    "<details>\n\nhidden text\n\n</details>": "<details>hiddentext</details>",
    "Use the <b> tag or Vec<T> or `std::vector<int>`": "Usethe<b>tagorVec<T>orstd::vector<int>",
    "A fact.[^1]\n\n[^1]: foot": "Afact.[^1][^1]:foot",
    "[a]: http://x.y": "[a]:http://x.y",
    "![alt text](pic.png)": "!alttext(pic.png)",
    '[t](http://x.y "title")': 't(http://x.y"title")',
    "[http://x.y](http://x.y)": "http://x.y(http://x.y)",
    "<http://x.y>": "<http://x.y>",
    "2*3*4 = 24, 2**10, x**2 + y**2": "2*3*4=24,2**10,x**2+y**2",
    "**G**eneral *it* ~~no~~ **这是**重点": "Generalitno这是重点",
    "f(*args, **kwargs)": "f(*args,**kwargs)",
    r"\(x\) \[y\] a \\ b \{z\}": r"\(x\)\[y\]a\\b\{z\}",
    r"\*not\* \_one\_": "*not*_one_",
    "&lt;b&gt; AT&amp;T &copy;": "&lt;b&gt;AT&amp;T&copy;",
    "Title\n===\ntext": "Title===text",
    "1. one\n1. two\n\n3) three": "1.one1.two3)three",
    "# C#\n## Part ##": "C#Part",
    "> quote\n>\n> more": "▌quote▌▌more",
    "- [ ] todo\n- [x] done": "•[]todo•[x]done",
    "| a | b |\n|--|--|\n| 1 | 2 | 3 |": "|a|b||--|--||1|2|3|",
    "| a |\n|--|\n| <b>x</b> |": "a──<b>x</b>",
    "```\n<a> __b__ *c*\n```": "<a>__b__*c*",
    "    four = 4": "four=4",
    ">" * 3000 + " deep": ">" * 3000 + "deep",
    "a\\\nb": "a\\b",
    ":smile: [red]x[/red]": ":smile:[red]x[/red]",
}


@pytest.mark.slow
@pytest.mark.parametrize("text", SAMPLES)
@pytest.mark.parametrize("columns", [20, 80])
def test_what_is_no_markup_is_on_the_screen(text: str, columns: int) -> None:
    screen = Screen(columns, 24)
    screen.show(text, step=1 if len(text) < 100 else 500)
    shown = "".join("".join(screen.lines).split())
    if "──" in SAMPLES[text]:
        shown = "a──" + shown.replace("─", "").removeprefix("a")
    assert shown == SAMPLES[text]


_WORD = st.text("abcXYZ019éß日本", min_size=1, max_size=12)
_LOOSE = st.text("ab1 *_`~<>[]()!#|\\&;:-+.=\"'$^{}/é日,?@%", max_size=30)
# Characters that are markup nowhere. Others may be: those above are in SAMPLES.
_NEVER_MARKUP = frozenset("$%&,/;?@^{}<")
_WRAPPED = st.sampled_from(
    [
        "{}",
        "**{}**",
        "*{}*",
        "`{}`",
        "<{}>",
        "[{}](u)",
        "![{}](u)",
        "__{}__",
        "~~{}~~",
        "<b>{}</b>",
        "[^{}]:",
    ]
)
_SPAN = st.one_of(st.builds(lambda frame, word: frame.format(word), _WRAPPED, _WORD), _LOOSE)
_LINE = st.lists(_SPAN, min_size=1, max_size=6).map(" ".join)
_START = st.sampled_from(
    [
        "",
        "# ",
        "- ",
        "  - ",
        "1. ",
        "> ",
        "    ",
        "| ",
        "```",
        "   ```sh",
        "---",
        "|--|--|",
        "<div>",
    ]
)
_TEXT = st.lists(st.one_of(st.just(""), st.builds(str.__add__, _START, _LINE), _START), max_size=14)


@pytest.mark.slow
@settings(max_examples=60)
@given(lines=_TEXT, columns=st.sampled_from([9, 20, 40, 100]), step=st.integers(4, 40))
def test_no_character_is_lost_that_is_no_markup(lines: list[str], columns: int, step: int) -> None:
    """For any Markdown, in any pieces; the words after a fence name its language."""

    def is_text(c: str) -> bool:
        return c.isalnum() or c in _NEVER_MARKUP

    screen = Screen(columns, 24)
    text = "\n".join(lines)
    screen.show(text, step)
    shown = content("".join(screen.lines))
    languages = "".join(line for line in lines if line.lstrip().startswith(("```", "~~~")))
    wanted = Counter(filter(is_text, text)) - content(languages)
    assert not wanted - shown
    letters = Counter({c: n for c, n in shown.items() if is_text(c)})
    assert not letters - content(text), "nothing twice"


@pytest.mark.slow
def test_a_long_answer_is_there_once_and_in_order() -> None:
    """For an answer longer than the screen, the scroll-back holds each line exactly once."""
    screen = Screen()
    words = [f"w{i}" for i in range(400)]
    with screen.view() as view:
        for index, word in enumerate(words):
            view.show(AnswerText(word + ("\n\n" if index % 50 == 49 else " ")))
    assert " ".join(screen.lines).split() == words


def test_a_code_block_longer_than_the_screen() -> None:
    screen = Screen()
    code = "".join(f"line_{i} = {i}\n" for i in range(40))
    with screen.view() as view:
        for piece in ("```python\n", *code.splitlines(keepends=True), "```\n\n", "Done."):
            view.show(AnswerText(piece))
    shown = [line.strip() for line in screen.lines if line.strip()]
    assert shown == [*code.splitlines(), "Done."]


def test_only_changed_lines_are_written() -> None:
    screen = Screen()
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
def test_thoughts(mode: str, shown: bool) -> None:
    screen = Screen()
    said: list[str] = []
    screen.out.say = said.append  # type: ignore[method-assign]
    with screen.view(mode) as view:
        for event in (
            PromptRead(3, 0, 0.1),
            ThoughtText("secret"),
            ThoughtEnded(),
            AnswerText("open"),
        ):
            view.show(event)
    text = "\n".join(screen.lines)
    assert ("thinking:\nsecret\n... done thinking.\n\nopen" in text) == shown
    assert ("secret" in text) == shown
    assert "open" in text
    assert [line.startswith("thought for ") for line in said] == ([True] if mode == "fold" else [])


def test_a_thought_in_the_middle_of_an_answer_stands_there() -> None:
    screen = Screen()
    with screen.view("show") as view:
        for event in (AnswerText("one"), ThoughtText("hm"), ThoughtEnded(), AnswerText("two")):
            view.show(event)
    shown = [line for line in screen.lines if line]
    assert shown == ["one", "thinking:", "hm", "... done thinking.", "two"]


def test_control_characters_of_a_model_are_shown_not_obeyed() -> None:
    screen = Screen()
    with screen.view() as view:
        view.show(AnswerText("a\x1b]0;owned\x07b\x1b[2Jc"))
    assert screen.screen.title != "owned"
    assert "\\x1b" in "\n".join(screen.lines)


def test_a_tool_call_is_json() -> None:
    screen = Screen()
    with screen.view() as view:
        view.show(AnswerText("Let me look."))
        view.show(CallMade(ToolCall("weather", {"town": "Bonn"})))
    text = "".join(screen.lines)
    assert '{"tool_call": {"name": "weather", "arguments": {"town": "Bonn"}}}' in text
    assert text.count("Let me look.") == 1


def test_nothing_is_left_behind_by_an_empty_answer() -> None:
    screen = Screen()
    with screen.view():
        pass
    assert [line for line in screen.lines if line] == []


def test_code_is_written_as_it_is() -> None:
    """The terminal wraps it, so that a copy has no newline and no blank that the model did not
    write.
    """
    screen = Screen(20)
    long = "curl -L " + "x" * 50
    screen.show(f"```sh\n{long}\n\tif\n```\n")
    written = "".join(screen.sent)
    assert f"{long}\n" in written
    assert "\tif\n" in written
    assert f"{'x' * 8} " not in written


_ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.mark.slow
@settings(max_examples=60)
@given(
    lines=st.lists(
        st.text("aZ0 \t*_`~<>[]()!#|\\&;:-+.=\"'$^{}/é日,?@%", max_size=60).map(str.rstrip),
        max_size=12,
    ),
    columns=st.sampled_from([9, 40, 100]),
    step=st.integers(1, 40),
    language=st.sampled_from(["", "python", "sh", "html", "nosuch"]),
)
def test_any_code_is_copied_as_it_was_written(
    lines: list[str], columns: int, step: int, language: str
) -> None:
    """What reaches the terminal, colors aside, is the code: every blank and every newline."""
    code = "\n".join(lines) + "\n"
    screen = Screen(columns, 8, redraw=False)
    screen.show(f"~~~~~~~{language}\n{code}~~~~~~~\n", 10_000)  # no line is drawn in part
    assert code in _ANSI.sub("", "".join(screen.sent)).replace("\r", "")
    redrawn = Screen(200, 8)
    redrawn.show(f"~~~~~~~{language}\n{code.expandtabs()}~~~~~~~\n", step)
    shown = [line.replace("日 ", "日") for line in redrawn.lines]
    assert shown[: len(lines)] == [line.expandtabs().rstrip() for line in lines]


def test_a_paragraph_longer_than_the_window_is_visible_while_it_streams() -> None:
    screen = Screen(20, 6)
    words = [f"word{i}" for i in range(60)]
    with screen.view() as view:
        for word in words:
            view.show(AnswerText(f"{word} "))
        assert screen.words == words
    assert screen.words == words


def test_a_long_code_block_is_visible_while_it_streams() -> None:
    screen = Screen(40, 6)
    with screen.view() as view:
        view.show(AnswerText("```python\n"))
        for number in range(30):
            view.show(AnswerText(f"line_{number} = 1\n"))
        assert [line.split()[0] for line in screen.lines if line] == [
            f"line_{n}" for n in range(30)
        ]


@pytest.mark.parametrize("columns", [21, 30])
def test_a_window_made_narrower_keeps_no_second_copy(columns: int) -> None:
    screen = Screen(60)
    words = [f"w{i}" for i in range(40)]
    with screen.view() as view:
        for index, word in enumerate(words):
            view.show(AnswerText(f"{word} "))
            if index == 25:
                screen.resize(columns)
    assert screen.words == words


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        "word and more text. ",
        "    x = call(1, 'two')\n",
        "| cell one | two |\n",
        "- an item of it\n",
    ],
    ids=["prose", "code", "table", "list"],
)
def test_the_number_of_redraws_is_bounded_by_their_cost(unit: str) -> None:
    """A redraw that takes a second is followed by none for thirty, by an injected clock."""
    screen = Screen(redraw=False)
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0  # each look at the clock: a redraw takes a second
        return now

    view = MarkdownView(screen.out, "hide", clock)
    draws: list[float] = []
    real = view._draw_pending
    view._draw_pending = lambda: (draws.append(now), real())[1]  # type: ignore[method-assign]
    with view:
        if unit.startswith("|"):
            view.show(AnswerText("| a | b |\n|--|--|\n"))
        for _ in range(300):
            view.show(AnswerText(unit))
    assert all(later - earlier >= 30 for earlier, later in pairwise(draws))


@pytest.mark.slow
def test_a_line_of_code_is_highlighted_from_a_bounded_past() -> None:
    highlighter = Highlighter("python")
    highlighter.highlight_line('"""')
    for number in range(150):  # a docstring: the lines before it are still needed
        text = highlighter.highlight_line(f"text {number}")
    assert text.plain == "text 149"
    assert text.spans
    highlighter.highlight_line('"""')
    for number in range(300):
        text = highlighter.highlight_line(f"def f{number}(): return {number}")
        assert text.plain == f"def f{number}(): return {number}"
    assert len(highlighter._lines) < 50
    assert len(text.spans) > 1


def test_no_color_is_hard_to_read_on_light_or_dark() -> None:
    lines = ["class A(B):", "    def f(self, n=0x1): # no", '        return not "a" if n else None']
    highlighter = Highlighter("python")
    spans = [span for line in lines for span in highlighter.highlight_line(line).spans]
    styles = [
        Style.parse(span.style) if isinstance(span.style, str) else span.style for span in spans
    ]
    colors = {style.color.name for style in styles if style.color} - {"bright_black"}  # blanks
    assert colors >= {"magenta", "cyan", "green"}
    assert not {name for name in colors if "bright" in name or name in ("blue", "yellow")}


def test_code_of_no_known_language_is_plain() -> None:
    assert Highlighter("nosuchlanguage").highlight_line("a\tb").plain == "a\tb"


def test_a_plain_view_marks_thoughts_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with PlainView(screen.out, "show") as view:
        for event in (ThoughtEnded(), ThoughtText("hm"), ThoughtText("!"), ThoughtEnded()):
            view.show(event)  # the first one ends a thought without text
        view.show(ThoughtText("cut off"))
    hm, cut = (f"thinking:\n{text}\n... done thinking.\n\n" for text in ("hm!", "cut off"))
    assert "".join(screen.sent) == hm + cut

"""The only module that prints. Data goes to standard output, messages go to standard error.

Text from models and files cannot control the terminal. A line, cell, title, label, message or hint
is printed as one line without control or invisible characters (core.visible.one_line); an answer
keeps its line breaks; JSON is escaped. rich interprets neither markup nor emoji codes nor links,
and a hook on its consoles cleans everything else that is drawn.

mode     result()                 say()            warn(), error()   progress()
human    what `render` draws      standard error   standard error    a bar, on a terminal only
json     one JSON document        nothing          standard error    nothing
quiet    the text of `brief`      nothing          standard error    nothing
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias

from g4cli.core.errors import G4Error, UsageError
from g4cli.core.progress import Progress, no_progress
from g4cli.core.reporter import ProgressUnit
from g4cli.core.visible import AnswerCleaner, escape_invisible, json_text, one_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

Mode = Literal["human", "json", "quiet"]
# A part of a line: text, or text and its style.
Part: TypeAlias = "str | tuple[str, str]"


# Columns that text gets at least, however narrow the terminal is: less cannot be read.
_MIN_COLUMNS: Final = 20


def _lacks_unicode(stream: TextIO) -> bool:
    """Return whether the encoding of a stream is another one than UTF-8."""
    return (stream.encoding or "utf-8").lower().replace("-", "") != "utf8"


class Output:
    """Prints what a command has to show. One is made per command, from its --json and --quiet."""

    def __init__(self, mode: Mode = "human") -> None:
        self.mode: Mode = mode
        self._consoles: dict[bool, Console] = {}  # by whether it is that of standard error
        self._answer, self._thought = AnswerCleaner(), AnswerCleaner()
        self._has_bars = False

    @property
    def is_human(self) -> bool:
        """Whether text for people is printed: neither --json nor --quiet was given."""
        return self.mode == "human"

    @property
    def is_terminal(self) -> bool:
        """Whether standard output is a terminal in human mode."""
        return self.is_human and sys.stdout.isatty()

    def console(self, *, stderr: bool = False) -> Console:
        """Return rich's console for standard output or standard error; it cleans what it draws."""
        if stderr not in self._consoles:
            self._consoles[stderr] = _make_console(stderr=stderr)
        return self._consoles[stderr]

    def result(
        self,
        data: Mapping[str, Any] | Sequence[Any],
        render: Callable[[], None] | None = None,
        *,
        brief: str | Sequence[str] | None = None,
    ) -> None:
        """Show a command's result: `data` as JSON, or `render()`, or in quiet mode `brief`.

        `brief` is one line or a sequence of lines.
        """
        if self.mode == "json":
            print(json_text(data, indent=2, ascii_only=_lacks_unicode(sys.stdout)))
        elif self.mode == "human" and render is not None:
            render()
        elif brief is not None:
            for text in [brief] if isinstance(brief, str) else brief:
                print(one_line(text))

    def line(self, *parts: Part, style: str | None = None) -> None:
        """Write one line to standard output (human mode); each part may have a style."""
        if self.is_human:
            # Bars stand on standard error, and only its console moves them below a new line. Where
            # standard output is the same terminal, its lines take that way.
            above_bars = self._has_bars and sys.stdout.isatty()
            self.console(stderr=above_bars).print(_make_text(parts), style=style)

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        title: str | None = None,
        right: Sequence[int] = (),
        whole: Sequence[int] = (),
        styles: Sequence[str] = (),
    ) -> None:
        """Draw a table on standard output (human mode).

        `right` are the indices of columns of numbers, `whole` those of columns that are never
        folded (nor is the first). `styles` are those of the first cell of each row. Without
        `columns` there is no header. On other outputs than a terminal, a row is one line.
        """
        if not self.is_human:
            return
        from rich.text import Text

        from g4cli.cli.views.table import lay_out

        console = self.console()
        width = console.width if sys.stdout.isatty() else None
        header, laid_rows = lay_out(
            [one_line(column) for column in columns],
            [[one_line(str(cell)) for cell in row] for row in rows],
            width=width,
            right=right,
            whole=whole,
        )
        if width is not None:
            console.print()
        if title is not None:
            console.print(_make_text([title]), style="italic")
        for text in header:
            console.print(Text(text), style="bold", soft_wrap=True)
        for index, lines in enumerate(laid_rows):
            if index < len(styles) and styles[index] and width is not None:
                first = Text(lines[0])
                first.stylize(styles[index], 0, len(one_line(str(rows[index][0]))))
                console.print(first, soft_wrap=True)
                lines = lines[1:]
            # Not through rich, which needs a minute for 100,000 rows.
            console.file.writelines(f"{text}\n" for text in lines)
        if width is not None:
            console.print()

    def say(self, text: str) -> None:
        """Print a message on standard error (human mode only)."""
        if self.is_human:
            self.console(stderr=True).print(_make_text([text]), style="dim")

    def warn(self, text: str) -> None:
        """Print a warning on standard error, in every mode."""
        self._print_message("warning", text, "yellow")

    def error(self, err: G4Error) -> None:
        """Print an expected failure: `error:` and, below it, `hint:`; or both as JSON."""
        if self.mode == "json":
            fields = {
                "reference": err.reference,
                "message": err.message,
                "hint": err.hint,
                "exit_code": err.exit_code,
            }
            print(
                json_text({"error": fields}, ascii_only=_lacks_unicode(sys.stderr)), file=sys.stderr
            )
            return
        if err.message:
            self._print_message("error", err.message, "bold red")
        if err.hint:
            self._print_message("hint", err.hint, "cyan")

    @property
    def can_ask(self) -> bool:
        """Return whether somebody is there to answer `confirm`."""
        return self.is_human and sys.stdin.isatty()

    def confirm(self, question: str) -> bool:
        """Return whether the user answers yes. Raises UsageError unless `can_ask`."""
        if not self.can_ask:
            why = (
                "standard input is not a terminal" if self.is_human else f"--{self.mode} was given"
            )
            raise UsageError(f"{why}, so g4 cannot ask: {question}", hint="add --yes")
        self.console(stderr=True).print(_make_text([f"{question} [y/N] "]), end="")
        try:
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        except KeyboardInterrupt:
            self.console(stderr=True).print()  # what comes next begins a line
            raise

    @contextmanager
    def progress(self, label: str, *, unit: ProgressUnit = "bytes") -> Iterator[Progress]:
        """Yield a `progress(done, total, part)` that draws a bar with rate and time left.

        With `unit` "files" each part has a bar of its own.
        """
        if not self.is_human or not sys.stderr.isatty():
            yield no_progress
            return
        with _make_bars(self.console(stderr=True), in_bytes=unit != "steps") as bar:
            # Until the first file is known, one bar without a total shows that something happens.
            tasks = {"": bar.add_task(one_line(label), total=None)}

            def update_bar(done: int, total: int, part: str) -> None:
                key = part if unit == "files" else ""
                if key not in tasks:
                    if "" in tasks:
                        bar.remove_task(tasks.pop(""))
                    # The bar starts at what was done before: it must not count as speed.
                    tasks[key] = bar.add_task(
                        shorten_name(escape_invisible(part)), total=total or None, completed=done
                    )
                bar.update(tasks[key], completed=done, total=total or None)
                # Of steps there is one bar, which names the current part beside the job.
                if unit == "steps" and part and part not in label:
                    bar.update(tasks[key], description=f"{one_line(label)}: {one_line(part)}")

            self._has_bars = True
            try:
                yield update_bar
            finally:
                self._has_bars = False

    def stream(self, text: str) -> None:
        """Write a piece of an answer to standard output at once, without control characters."""
        sys.stdout.write(self._answer(text))
        sys.stdout.flush()

    def write_text(self, text: str) -> None:
        """Write a text of several lines to standard output, without control characters."""
        self.stream(text if text.endswith("\n") else f"{text}\n")

    def write_xml(self, text: str) -> None:
        """Write an XML document to standard output: unchanged, or cleaned on a terminal.

        A character that the stream's encoding lacks becomes a reference, such as &#9786;.
        """
        if sys.stdout.isatty():
            self.stream(text)
            return
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "xmlcharrefreplace").decode(encoding))

    def write_thought(self, text: str) -> None:
        """Write a piece of a thought to standard error at once (human mode), dim on a terminal."""
        if self.is_human:
            dim = sys.stderr.isatty() and "NO_COLOR" not in os.environ
            shown = self._thought(text)
            sys.stderr.write(f"\x1b[2m{shown}\x1b[0m" if dim else shown)
            sys.stderr.flush()

    def _print_message(self, word: str, text: str, style: str) -> None:
        console = self.console(stderr=True)
        if not sys.stderr.isatty():
            print(f"{word}: {one_line(text)}", file=sys.stderr)
        elif word == "hint":  # not folded: commands are copied from it
            console.print(_make_text([("hint: ", style), text]), soft_wrap=True)
        else:
            from rich.padding import Padding

            from g4cli.cli.views.table import fold_text

            # Later lines are indented: a name from a file must not begin a line that reads like a
            # message of its own.
            indent = len(word) + 2
            first, *rest = fold_text(one_line(text), max(_MIN_COLUMNS, console.width - indent - 1))
            console.print(_make_text([(f"{word}: ", style), first]), soft_wrap=True)
            for more in rest:
                console.print(Padding(_make_text([more]), (0, 0, 0, indent)), soft_wrap=True)


def make_output(*, as_json: bool = False, quiet: bool = False) -> Output:
    """Return the output for a command's --json and --quiet. Raises UsageError if both are given."""
    if as_json and quiet:
        raise UsageError("--json and --quiet cannot be used together")
    return Output("json" if as_json else "quiet" if quiet else "human")


def _make_text(parts: Iterable[Part]) -> Text:
    """Return one line as rich's text, its parts escaped by one_line()."""
    from rich.text import Text

    styled = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((one_line(text), style) for text, style in styled))


def _make_console(*, stderr: bool) -> Console:
    """Return a console without markup and emoji codes that prints no control characters."""
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
    from rich.control import Control
    from rich.segment import Segment

    class Cleaned:
        def __init__(self, drawn: ConsoleRenderable) -> None:
            self._drawn = drawn

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            cleaner = AnswerCleaner()
            for text, style, control in console.render(self._drawn, options):
                style = style.update_link(None) if style and style.link else style
                yield Segment(text, style, control) if control else Segment(cleaner(text), style)

    class CleanHook(RenderHook):
        def process_renderables(
            self, renderables: list[ConsoleRenderable]
        ) -> list[ConsoleRenderable]:
            return [
                drawn if isinstance(drawn, Control) else Cleaned(drawn) for drawn in renderables
            ]

    stream = sys.stderr if stderr else sys.stdout
    # Lines are folded for a terminal only: elsewhere programs read them.
    console = Console(
        stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=not stream.isatty()
    )
    console.push_render_hook(CleanHook())
    return console


def _make_bars(console: Console, *, in_bytes: bool) -> Any:
    """Return rich's progress display: name, bar, amount, rate, time left."""
    from rich import progress as bars
    from rich.constrain import Constrain
    from rich.text import Text

    from g4cli.core.units import rate_text

    class Rate(bars.ProgressColumn):
        def render(self, task: bars.Task) -> Text:
            return Text(rate_text(task.speed) if task.speed else "")

    class Amount(bars.DownloadColumn):
        def render(self, task: bars.Task) -> Text:
            return super().render(task) if task.total or task.completed else Text("")

    class Bars(bars.Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            # Leave room for the ^C that a terminal echoes: after a full line it would begin
            # another line, which is never erased.
            yield Constrain(self.make_tasks_table(self.tasks), max(_MIN_COLUMNS, console.width - 3))

    amount = (Amount(binary_units=True), Rate()) if in_bytes else (bars.MofNCompleteColumn(),)
    return Bars(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(bar_width=None),
        *amount,
        bars.TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        expand=True,
    )


def shorten_name(name: str, width: int = 30) -> str:
    """Return `name` in `width` characters at most; its middle is omitted: ends tell files apart."""
    return name if len(name) <= width else f"{name[: width // 2 - 1]}…{name[-(width // 2) :]}"

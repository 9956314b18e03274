"""The only module that prints. Data goes to standard output, talk to standard error.

mode     result()                 say()/table title   warn(), error()   progress
human    what `render` draws      standard error      standard error    a bar, on a terminal only
json     one JSON document        nothing             standard error    nothing
quiet    the bare essentials      nothing             standard error    nothing
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from g4cli.core.errors import G4Error, UsageError
from g4cli.core.progress import Progress, no_progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Mode = Literal["human", "json", "quiet"]

# C0 and C1 controls except tab and newline, and the bidirectional overrides: text from files and models
# must not move the cursor, set the title or reorder what the user reads. Surrogates stand for the bytes of a
# file name that is no UTF-8 (PEP 383).
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BYTES: Final = range(0xDC80, 0xDD00)


def clean(text: str) -> str:
    """Return `text` with control characters made visible as \\xNN, and bytes that are no text as well."""
    return _CONTROL.sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    byte = code - 0xDC00 if code in _BYTES else code
    return f"\\x{byte:02x}" if byte < 256 else f"\\u{code:04x}"


def _is_narrow(stream: TextIO) -> bool:
    return (stream.encoding or "utf-8").lower().replace("-", "") != "utf8"


class Output:
    """Where a command's words go. One is made per command, from its --json and --quiet."""

    def __init__(self, mode: Mode = "human") -> None:
        self.mode: Mode = mode
        self._consoles: dict[bool, Console] = {}

    @property
    def is_human(self) -> bool:
        """Return whether talk and decoration are wanted."""
        return self.mode == "human"

    @property
    def is_terminal(self) -> bool:
        """Return whether standard output is a terminal in human mode."""
        return self.is_human and sys.stdout.isatty()

    def console(self, *, stderr: bool = False) -> Console:
        """Return rich's console for standard output or standard error."""
        from rich.console import Console

        if stderr not in self._consoles:
            self._consoles[stderr] = Console(
                stderr=stderr,
                highlight=False,
                soft_wrap=not (sys.stderr if stderr else sys.stdout).isatty(),
            )
        return self._consoles[stderr]

    def result(
        self,
        data: Mapping[str, Any] | Sequence[Any],
        render: Callable[[], None] | None = None,
        *,
        brief: str | None = None,
    ) -> None:
        """Show a command's result: JSON, or `render()`, or in quiet mode the line `brief`."""
        if self.mode == "json":
            print(json.dumps(data, ensure_ascii=_is_narrow(sys.stdout), indent=2, default=str))
        elif self.mode == "quiet":
            if brief is not None:
                print(clean(brief))
        elif render is not None:
            render()
        elif brief is not None:
            print(clean(brief))

    def line(self, text: str = "", *, style: str | None = None) -> None:
        """Write one line of data to standard output (human mode)."""
        if self.is_human:
            self.console().print(clean(text), style=style, markup=False)

    def draw(self, renderable: Any) -> None:
        """Draw a rich object on standard output (human mode)."""
        if self.is_human:
            self.console().print(renderable)

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        title: str | None = None,
        right: Sequence[int] = (),
        whole: Sequence[int] = (),
    ) -> None:
        """Draw a table on standard output; `right` names columns of numbers, `whole` those never folded."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(columns):
            table.add_column(
                column,
                justify="right" if index in right else "left",
                overflow="fold",
                no_wrap=index in whole,
            )
        for row in rows:
            table.add_row(
                *(cell if isinstance(cell, Text) else Text(clean(str(cell))) for cell in row)
            )
        self.draw(table)

    def say(self, text: str) -> None:
        """Tell the user something on standard error (human mode only)."""
        if self.is_human:
            self.console(stderr=True).print(clean(text), markup=False, style="dim")

    def warn(self, text: str) -> None:
        """Warn on standard error, in every mode."""
        self._tell("warning", text, "yellow")

    def error(self, err: G4Error) -> None:
        """Render an expected failure: `error:` and, below it, `hint:`."""
        if self.mode == "json":
            print(
                json.dumps(
                    {
                        "error": {
                            "reference": err.reference,
                            "message": err.message,
                            "hint": err.hint,
                            "exit_code": err.exit_code,
                        }
                    },
                    ensure_ascii=False,
                ),
                file=sys.stderr,
            )
            return
        if err.message:
            self._tell("error", err.message, "bold red")
        if err.hint:
            self._tell("hint", err.hint, "cyan")

    def confirm(self, question: str) -> bool:
        """Ask on the terminal. Raises UsageError when nobody is there to answer."""
        if not self.is_human or not sys.stdin.isatty():
            raise UsageError(f"cannot ask: {question}", hint="add --yes")
        self.console(stderr=True).print(f"{clean(question)} [y/N] ", end="", markup=False)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextmanager
    def progress(
        self, label: str, *, unit: Literal["bytes", "steps", "files"] = "bytes"
    ) -> Iterator[Progress]:
        """Yield a `progress(done, total, label)` that draws a bar with rate and time left.

        With "files" every label given to it has a bar of its own.
        """
        if not self.is_human or not sys.stderr.isatty():
            yield no_progress
            return
        with _bars(self.console(stderr=True), in_bytes=unit != "steps") as bar:
            # Until the first file is known, a bar for the whole shows that something happens.
            tasks = {"": bar.add_task(clean(label), total=None)}

            def step(done: int, total: int, part: str) -> None:
                key = part if unit == "files" else ""
                if key not in tasks:
                    if "" in tasks:
                        bar.remove_task(tasks.pop(""))
                    # What was there before is no measure of speed: it is where the bar starts.
                    tasks[key] = bar.add_task(
                        _shortened(clean(part)), total=total or None, completed=done
                    )
                bar.update(tasks[key], completed=done, total=total or None)

            yield step

    def stream(self, text: str) -> None:
        """Write a piece of an answer to standard output at once, as it is but for control characters."""
        sys.stdout.write(clean(text))
        sys.stdout.flush()

    def errors_shown(self) -> ErrorsShown:
        """Return a block that shows an expected failure and goes on: for conversations."""
        return ErrorsShown(self)

    def murmur(self, text: str) -> None:
        """Write a piece of a thought to standard error at once (human mode only), dim on a terminal."""
        if self.is_human:
            dim = sys.stderr.isatty() and "NO_COLOR" not in os.environ
            sys.stderr.write(f"\x1b[2m{clean(text)}\x1b[0m" if dim else clean(text))
            sys.stderr.flush()

    def _tell(self, word: str, text: str, style: str) -> None:
        stream: TextIO = sys.stderr
        if stream.isatty():
            from rich.text import Text

            self.console(stderr=True).print(Text(f"{word}: ", style=style) + Text(clean(text)))
        else:
            print(f"{word}: {clean(text)}", file=stream)


class ErrorsShown:
    """Shows a G4Error raised inside the block instead of passing it on."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, err: BaseException | None, _trace: object) -> bool:
        if isinstance(err, G4Error):
            self._out.error(err)
            return True
        return False


def output_for(*, as_json: bool = False, quiet: bool = False) -> Output:
    """Return the sink for a command's --json and --quiet. Raises UsageError if both are given."""
    if as_json and quiet:
        raise UsageError("--json and --quiet exclude each other")
    return Output("json" if as_json else "quiet" if quiet else "human")


def _bars(console: Console, *, in_bytes: bool) -> Any:
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
            # Room for the ^C that a terminal echoes: on a full line it would begin another one, which
            # nobody erases.
            yield Constrain(self.make_tasks_table(self.tasks), max(20, console.width - 3))

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


def _shortened(name: str, width: int = 30) -> str:
    """Return `name`, its middle left out if it is long: both ends tell files apart."""
    return name if len(name) <= width else f"{name[: width // 2 - 1]}…{name[-(width // 2) :]}"

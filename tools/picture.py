"""Draw the picture of the README: a real chat with `tiny` in a pseudo-terminal, as SVG.

python -m tools.picture OUT.svg
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.style import Style
from rich.text import Text

from tests.support.run.terminal import Terminal

MAIN = "from g4cli.cli.main import main; main()"
LINES = (
    ("What is Q4_0?", "4.5 bits per weight"),
    ("/think on", "thinking on"),
    ("/stats on", "answer 62"),
    ("What is GGUF?", "all the tensors of a model"),
)
COLORS = {"brown": "yellow", "brightbrown": "bright_yellow", "default": None}


def make_style(cell: Any) -> Style:
    """Return the style of one cell of the screen."""
    color = COLORS.get(cell.fg, cell.fg)
    if color and re.fullmatch("[0-9a-f]{6}", color):
        color = f"#{color}"
    elif color:
        color = re.sub("^bright(?=[a-z])", "bright_", color)
    return Style(color=color, bold=cell.bold, italic=cell.italics)


def read_screen(terminal: Terminal) -> Text:
    """Return the screen as rich text with its colors."""
    text = Text()
    for row in range(terminal.screen.lines):
        line = terminal.screen.buffer[row]
        cells = [
            (line[column].data or " ", make_style(line[column]))
            for column in range(terminal.screen.columns)
        ]
        for style, run in groupby(cells, key=lambda cell: cell[1]):
            text.append("".join(data for data, _ in run), style)
        text.append("\n")
    text.rstrip()
    return text


def main(out: Path) -> None:
    """Run the chat and write its last screen to `out`."""
    with tempfile.TemporaryDirectory() as home:
        env = {"G4_HOME": home, "COLORTERM": "", "COLUMNS": "80"}
        os.environ.pop("NO_COLOR", None)
        with Terminal([sys.executable, "-c", MAIN, "pull", "tiny"], env) as terminal:
            terminal.wait_end()
        command = [sys.executable, "-c", MAIN, "chat", "tiny", "--temp", "0"]
        with Terminal([*command, "-p", "Hello"], env) as terminal:
            terminal.wait_end()  # tests the kernels and the file, which prints notices
        with Terminal(command, env, rows=22) as terminal:
            terminal.wait_for("ask something, or /help")
            for number, (line, wanted) in enumerate(LINES, 2):
                terminal.enter(line)
                terminal.wait_for(wanted)
                terminal.wait_for(">>>", count=number)
            picture = read_screen(terminal)
            terminal.enter("/quit")
            terminal.wait_end()
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(picture, soft_wrap=True)
    out.write_text(console.export_svg(title="g4 chat tiny", unique_id="g4"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

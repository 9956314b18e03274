"""`g4 svg show` in a real pseudo-terminal: half blocks, or the PNG by the terminal's protocol."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

import pytest

from g4cli.core.png import decode_png
from tests.support.run.terminal import Terminal

MAIN = "from g4cli.cli.main import main; main()"
# Red on the left, blue on the right, nothing below; the duplicate attribute is repaired.
DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20">'
    '<rect width="20" width="20" height="10" fill="#f00"/>'
    '<rect x="20" width="20" height="10" fill="#00f"/></svg>'
)


def show(tmp_path: Path, *, text: str = DRAWING, **env: str) -> Terminal:
    """Return the terminal in which the drawing was shown, after the program has ended."""
    path = tmp_path / "drawing.svg"
    path.write_text(text)
    terminal = Terminal([sys.executable, "-c", MAIN, "svg", "show", str(path)], env, columns=41)
    with terminal:
        terminal.wait_end()
    return terminal


@pytest.fixture(autouse=True)
def colors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the program see a terminal with colors that is none of the known ones."""
    for name in (
        "NO_COLOR",
        "COLUMNS",
        "TMUX",
        "STY",
        "ZELLIJ",
        "XTERM_VERSION",
        "TERM_PROGRAM",
        "KITTY_WINDOW_ID",
        "KONSOLE_VERSION",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.slow
def test_an_encoding_without_half_blocks_shows_none(tmp_path: Path) -> None:
    terminal = show(tmp_path, PYTHONIOENCODING="ascii")
    assert "this output cannot show pictures" in " ".join(terminal.screen.display)
    assert "?" not in terminal.screen.display[0]


@pytest.mark.slow
def test_half_blocks_have_the_colors_of_the_drawing(tmp_path: Path) -> None:
    terminal = show(tmp_path)
    assert terminal.exit_code == 0
    cells = terminal.screen.buffer
    # 40 columns of one pixel, 20 rows of pixels in 10 lines, of which the lower 5 are empty.
    assert [(cells[y][x].data, cells[y][x].fg, cells[y][x].bg) for y, x in ((0, 0), (4, 19))] == [
        ("▀", "ff0000", "ff0000")
    ] * 2
    assert [(cells[y][x].fg, cells[y][x].bg) for y, x in ((0, 20), (4, 39))] == [
        ("0000ff", "0000ff")
    ] * 2
    assert terminal.screen.display[5].strip() == ""
    assert cells[11][0].bg == "default"  # the colors end with the picture
    assert "repaired" in terminal.text


def test_kitty_gets_the_picture_itself(tmp_path: Path) -> None:
    terminal = show(tmp_path, TERM="xterm-kitty")
    pieces = re.findall(rb"\x1b_G[^;]*;([^\x1b]*)\x1b", terminal.raw)
    pixels = decode_png(base64.b64decode(b"".join(pieces)))
    assert (pixels.width, pixels.height) == (40, 20)
    assert pixels.at(0, 0) == (255, 0, 0, 255)
    assert "▀" not in terminal.text


@pytest.mark.slow
def test_a_text_without_a_drawing_exits_as_check_does(tmp_path: Path) -> None:
    terminal = show(tmp_path, text="no drawing here")
    assert terminal.exit_code == 8
    assert "error: " not in terminal.text
    assert "no drawing" in terminal.text
    assert "▀" not in terminal.text

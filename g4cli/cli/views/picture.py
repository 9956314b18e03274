"""Show pictures in the terminal: as PNG by the protocols of kitty and iTerm2, else as half blocks.

Sources: kitty, "Terminal graphics protocol" (a PNG in base64, in pieces of 4,096 characters);
iTerm2, "Inline Images Protocol" (OSC 1337). A terminal is recognized by the environment variables
that it sets: asking it would take time and need raw mode. tmux, screen and zellij do not pass the
protocols on, so half blocks are drawn inside them.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, TypeAlias

from g4cli.cli.output import Output
from g4cli.core.png import Pixels, decode_png
from g4cli.operations.svg import render_drawing
from g4cli.svg.repair import Drawing

PictureProtocol: TypeAlias = Literal["kitty", "iterm2", "blocks", "blocks-256", "none"]
"""`blocks-256` are half blocks in the colors of xterm's palette, the others have 24 bits."""

_PIECE_CHARS: Final = 4096  # of base64 in one escape sequence, at most (kitty's protocol)
_MAX_SIDE: Final = 640  # pixels, for terminals that take a PNG: a choice, half of a usual window
_MIN_COLUMNS, _MAX_COLUMNS = 8, 80  # of half blocks, which are one pixel wide and two high
_MIN_ALPHA: Final = 128  # from which on a pixel is drawn: half blocks are opaque or not there
_UPPER_HALF, _LOWER_HALF = "▀", "▄"

Rgba: TypeAlias = tuple[int, int, int, int]
"""A pixel: red, green, blue and alpha, from 0 to 255."""


def show_picture(out: Output, drawing: Drawing, *, save_command: str) -> None:
    """Show a drawing on standard output if it is a terminal; nothing if there is none to show.

    `save_command` is told where pictures cannot be shown. Raises RuntimeFailed if the drawing
    cannot be rendered.
    """
    if drawing.text is None:
        return
    protocol = choose_picture_protocol(os.environ) if out.is_terminal else "none"
    if protocol.startswith("blocks") and not _can_print_blocks():
        protocol = "none"
    if protocol == "none":
        out.say(f"this output cannot show pictures; to write a PNG: {save_command}")
        return
    # Not through `out`, which removes escape sequences: these are made here, of pixels alone.
    if protocol.startswith("blocks"):
        columns = max(_MIN_COLUMNS, min(_MAX_COLUMNS, out.console().width - 1))
        pixels = decode_png(render_drawing(drawing, width=columns, most=2 * columns))
        lines = draw_half_blocks(pixels, in_palette=protocol == "blocks-256")
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    else:
        png = render_drawing(drawing, most=_MAX_SIDE)
        sys.stdout.write((encode_kitty if protocol == "kitty" else encode_iterm2)(png) + "\n")
    sys.stdout.flush()


def choose_picture_protocol(environment: Mapping[str, str]) -> PictureProtocol:
    """Return how to show a picture on the terminal that the environment variables describe."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if term in ("", "dumb") or environment.get("NO_COLOR"):  # a picture is nothing but colors
        return "none"
    if environment.keys() & {"TMUX", "STY", "ZELLIJ"} or term.startswith(("screen", "tmux")):
        return "blocks"
    # A terminal that was started from a kitty window inherits its variable.
    is_kitty = (
        "KITTY_WINDOW_ID" in environment and not program and "XTERM_VERSION" not in environment
    )
    is_kitty |= "kitty" in term or program in ("ghostty", "WezTerm")
    if is_kitty or "KONSOLE_VERSION" in environment:
        return "kitty"
    # Apple's terminal has 24-bit colors from macOS 26 on, and says so by COLORTERM.
    if program == "Apple_Terminal" and "COLORTERM" not in environment:
        return "blocks-256"
    return "iterm2" if program == "iTerm.app" else "blocks"


def _can_print_blocks() -> bool:
    try:
        (_UPPER_HALF + _LOWER_HALF).encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def encode_kitty(png: bytes) -> str:
    """Return the escape sequences that show a PNG by kitty's protocol."""
    text = base64.b64encode(png).decode()
    pieces = [text[i : i + _PIECE_CHARS] for i in range(0, len(text), _PIECE_CHARS)]
    # Transmit and display a PNG; m=1 says that more pieces follow.
    first, last = "a=T,f=100,", len(pieces) - 1
    return "".join(
        f"\x1b_G{first if index == 0 else ''}m={int(index < last)};{piece}\x1b\\"
        for index, piece in enumerate(pieces)
    )


def encode_iterm2(png: bytes) -> str:
    """Return the escape sequence that shows a PNG by iTerm2's protocol."""
    return f"\x1b]1337;File=inline=1;size={len(png)}:{base64.b64encode(png).decode()}\x07"


def draw_half_blocks(pixels: Pixels, *, in_palette: bool = False) -> Iterator[str]:
    """Yield lines of text in which each character shows two pixels, one above the other.

    The upper pixel is the color of the character, the lower pixel that of its background. A
    transparent pixel leaves the terminal's own background. Colors have 24 bits, or are those of
    xterm's palette (`in_palette`).
    """
    format_color = _find_palette_color if in_palette else _format_color
    for y in range(0, pixels.height, 2):
        line = []
        for x in range(pixels.width):
            upper = pixels.at(x, y)
            lower = pixels.at(x, y + 1) if y + 1 < pixels.height else (0, 0, 0, 0)
            line.append(_draw_cell(upper, lower, format_color))
        yield "".join(line) + "\x1b[0m"


def _draw_cell(upper: Rgba, lower: Rgba, format_color: Callable[[Rgba], str]) -> str:
    """Return a character that shows two pixels (SGR 38 and 48)."""
    if not _is_visible(upper):
        if not _is_visible(lower):
            return "\x1b[0m "
        return f"\x1b[0;38;{format_color(lower)}m{_LOWER_HALF}"
    background = f"48;{format_color(lower)}" if _is_visible(lower) else "49"
    return f"\x1b[38;{format_color(upper)};{background}m{_UPPER_HALF}"


def _is_visible(pixel: Rgba) -> bool:
    return pixel[3] >= _MIN_ALPHA


def _format_color(pixel: Rgba) -> str:
    red, green, blue, _ = pixel
    return f"2;{red};{green};{blue}"


def _find_palette_color(pixel: Rgba) -> str:
    """Return the nearest color of xterm's cube of 6 x 6 x 6, which begins at color 16.

    Red, green and blue have the levels 0, 95, 135, 175, 215, 255: from 95 on in steps of 40. A
    value belongs to the level that it is nearest to.
    """
    red, green, blue = (0 if c < 48 else 1 if c < 115 else (c - 35) // 40 for c in pixel[:3])
    return f"5;{16 + 36 * red + 6 * green + blue}"

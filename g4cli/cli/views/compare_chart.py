"""Graphs of a comparison as SVG: shares with their intervals, quality against size and speed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final, NamedTuple

from g4cli.cli.views.compare_figures import name_models
from g4cli.core.units import GIB, MIB
from g4cli.core.visible import one_line

# Eight colors that people with color blindness can tell apart (Okabe and Ito, 2008).
COLORS: Final = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#b8a800",
)  # fmt: skip
# Lengths are in units of the viewBox, which the report stretches to its width; y grows downwards.
_WIDTH: Final = 720
_ROW: Final = 18  # the height of a row of the graph of shares
_LEFT: Final = 190  # room for the names of shares
_RIGHT: Final = 24
_LABEL_CHARS: Final = 40
_CHAR_WIDTH: Final = 6.4  # about the mean of the style sheet's font, of 12 units


class _Point(NamedTuple):
    """A model in a plot: its quantity on the x axis, and its perplexity with a standard error.

    `number` is the model's index in the document.
    """

    number: int
    name: str
    x: float
    perplexity: float
    error: float


def color_of(index: int) -> str:
    """Return the color of the model at `index`."""
    return COLORS[index % len(COLORS)]


def draw_shares(names: Sequence[str], models: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG graph of the shares `names` of all models: a dot each on its 95 % interval.

    Below each other: the shares, and of each share a row for every model that has it.
    """
    span = _WIDTH - _LEFT - _RIGHT
    parts: list[str] = []
    y = 14.0
    for name in names:
        shares = [(index, m["summary"]["shares"].get(name)) for index, m in enumerate(models)]
        shown = [(index, share) for index, share in shares if share]
        if not shown:
            continue
        middle = y + _ROW * len(shown) / 2
        parts.append(_draw_text(_LEFT - 14, middle + 4, name, anchor="end"))
        for index, share in shown:
            cy = y + _ROW / 2
            low, high, x = (_LEFT + span * share[key] for key in ("low", "high", "share"))
            color, label = color_of(index), escape(one_line(models[index]["label"]))
            parts.append(
                f'<line x1="{low:.1f}" y1="{cy:.1f}" x2="{high:.1f}" y2="{cy:.1f}" '
                f'stroke="{color}" stroke-width="6" stroke-opacity=".3" stroke-linecap="round"/>'
                f'<circle cx="{x:.1f}" cy="{cy:.1f}" r="5" fill="{color}">'
                f"<title>{label}: {share['count']} of {share['total']}"
                "</title></circle>"
            )
            y += _ROW
        y += 10
    grid = []
    for percent in (0, 25, 50, 75, 100):
        x = _LEFT + span * percent / 100
        grid.append(f'<line class="grid" x1="{x:.1f}" y1="8" x2="{x:.1f}" y2="{y:.1f}"/>')
        grid.append(_draw_text(x, y + 14, f"{percent} %", anchor="middle"))
    return _make_svg(y + 22, [*grid, *parts], "Shares of answers with their 95 % intervals")


def draw_quality(models: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG with two graphs of the models with "quality": perplexity by size and by speed.

    At least one model must have it.
    """
    largest = max(model["quality"]["bytes"] for model in models if model["quality"])
    unit, unit_bytes = ("GiB", GIB) if largest >= GIB / 2 else ("MiB", MIB)
    by_size, by_speed = (
        [
            _Point(index, name, q[quantity] / scale, q["perplexity"], q["perplexity_error"])
            for index, (model, name) in enumerate(zip(models, name_models(models), strict=True))
            if (q := model["quality"])
        ]
        for quantity, scale in (("bytes", unit_bytes), ("tg32_tps", 1))
    )
    return _make_svg(
        300,
        [
            *_draw_panel(by_size, 0, f"size in {unit}"),
            *_draw_panel(by_speed, _WIDTH / 2, "decoding, tokens per second"),
        ],
        "Perplexity against size and speed",
    )


def _draw_panel(points: Sequence[_Point], left: float, title: str) -> list[str]:
    """Return the elements of a scatter plot, which begins at x = `left` and is half as wide as all.

    `title` is that of the x axis.
    """
    x0, x1, y0, y1 = left + 62, left + _WIDTH / 2 - 20, 18.0, 246.0  # the frame between the axes
    x_ticks = find_ticks([p.x for p in points])
    y_ticks = find_ticks([p.perplexity + e for p in points for e in (-p.error, p.error)])

    def place(value: float, ticks: Sequence[float], begin: float, end: float) -> float:
        return begin + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (end - begin)

    parts = []
    for tick in y_ticks:
        y = place(tick, y_ticks, y1, y0)
        parts.append(f'<line class="grid" x1="{x0:.1f}" y1="{y:.1f}" x2="{x1:.1f}" y2="{y:.1f}"/>')
        parts.append(_draw_text(x0 - 8, y + 4, f"{tick:g}", anchor="end"))
    for tick in x_ticks:
        x = place(tick, x_ticks, x0, x1)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{y0:.1f}" x2="{x:.1f}" y2="{y1:.1f}"/>')
        parts.append(_draw_text(x, y1 + 18, f"{tick:g}", anchor="middle"))
    parts.append(_draw_text((x0 + x1) / 2, y1 + 40, title, anchor="middle"))
    parts.append(_draw_text(x0, y0 - 6, "perplexity (lower is better)"))
    spots = []
    for point in points:
        x = place(point.x, x_ticks, x0, x1)
        top, y, bottom = (
            place(point.perplexity + e, y_ticks, y1, y0) for e in (point.error, 0, -point.error)
        )
        color = color_of(point.number)
        parts.append(
            f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" '
            f'stroke="{color}" stroke-width="2" stroke-opacity=".5"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{color}"/>'
        )
        spots.append((x, y, point.name))
    for x, y, anchor, label in place_labels(spots, x0, x1):
        parts.append(_draw_text(x, y, label, anchor=anchor))
    return parts


def place_labels(
    spots: Sequence[tuple[float, float, str]], left: float, right: float
) -> list[tuple[float, float, str, str]]:
    """Return x, y, text-anchor and text of the label of each point: where it covers no other.

    `spots` are the places of points with their labels, which must lie between `left` and `right`:
    one that has no room on either side of its point is shortened. Beside the point is tried first,
    then above and below it. If all is taken, the label stands beside its point all the same.
    """
    # Boxes (left, top, right, bottom) that are taken, first those of the points: 5 and a margin.
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y, _ in spots]
    placed = []
    for x, y, label in spots:
        room = max(x - left, right - x) - 10
        label = _shorten(one_line(label), min(_LABEL_CHARS, int(room / _CHAR_WIDTH)))
        width = _CHAR_WIDTH * len(label)
        choices = [
            (x + 10, y + 4, "start"),
            (x - 10, y + 4, "end"),
            *((x + 5, y + dy, "start") for dy in (-11, 20, -25, 34)),
            *((x - 5, y + dy, "end") for dy in (-11, 20, -25, 34)),
        ]
        # If none is free, the last one stays: beside the point, towards the middle of the plot.
        for tx, ty, anchor in (*choices, choices[x > (left + right) / 2]):
            begin = tx if anchor == "start" else tx - width
            box = (begin, ty - 11, begin + width, ty + 3)  # a line of text around its baseline
            if left <= begin and box[2] <= right and not any(_overlap(box, b) for b in taken):
                break
        taken.append(box)
        placed.append((tx, ty, anchor, label))
    return placed


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def find_ticks(values: Sequence[float]) -> list[float]:
    """Return round numbers at equal distances, three to six, from below `values` to above them."""
    low, high = min(values), max(values)
    # One value, or values so close that the six digits of a label would not tell ticks apart.
    if high - low <= 1e-4 * max(1.0, abs(high)):
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(n * step, 10) for n in range(first, last + 1)]


def _draw_text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    shown = _shorten(one_line(text), _LABEL_CHARS)
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(shown)}</text>'


def _shorten(text: str, n_chars: int) -> str:
    """Return `text` or its end, which tells models apart, in at most `n_chars` characters."""
    return text if len(text) <= n_chars else f"…{text[len(text) - n_chars + 1 :]}"


def _make_svg(height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'class="graph" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )

"""Drawings are rendered in a child process, and a drawing that ends the child does no harm here."""

from __future__ import annotations

import json

import pytest
import resvg_py

from g4cli.core.child_memory import ChildOutput
from g4cli.core.errors import RuntimeFailed
from g4cli.core.png import decode_png
from g4cli.operations.svg import check_drawing, render_drawing
from g4cli.runtime.render import render
from g4cli.runtime.render.render import Rendering, RenderJob, refuse_rendering, render_jobs
from g4cli.svg.repair import repair_drawing
from tests.support.builders.svg_defects import good_drawings

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">'
RED = f'{HEAD}<rect width="10" height="5" fill="red"/></svg>'


def test_a_drawing_becomes_a_picture_of_the_asked_size() -> None:
    wide, high, bad = render_jobs(
        [RenderJob(RED, 1.0, 8), RenderJob(RED, 0.5, 16), RenderJob("<svg", 1.0, 8)]
    )
    pixels = decode_png(wide.png)
    assert (pixels.width, pixels.height) == (8, 8)
    assert (pixels.at(0, 0), pixels.at(7, 7)) == ((255, 0, 0, 255), (0, 0, 0, 0))
    assert decode_png(high.png).height == 16
    assert not bad.png
    assert bad.error


@pytest.mark.parametrize(
    "svg",
    [
        f"{HEAD}{'<g>' * 700}{'</g>' * 700}</svg>",  # resvg ends with SIGSEGV
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1000000"><rect/></svg>',
    ],
)
def test_a_drawing_that_ends_the_child_is_an_error_not_a_crash(svg: str) -> None:
    good, bad = render_jobs([RenderJob(RED, 1.0, 8), RenderJob(svg, 1.0, 8000)])
    assert good.png
    assert not bad.png
    assert bad.error


def test_half_a_line_of_a_child_that_was_killed_is_no_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = ChildOutput('{"png": "aGk="}\n{"png": "aG', "", True, False, 0)
    monkeypatch.setattr(render, "run_child", lambda *_, **__: (written, -9))
    whole, half = render_jobs([RenderJob(RED, 1.0, 8)] * 2)
    assert whole.png == b"hi"
    assert half == Rendering(error="the renderer took too long")


def test_what_would_end_the_child_is_not_given_to_it() -> None:
    deep = repair_drawing(f"{HEAD}{'<g>' * 300}{'</g>' * 300}</svg>")
    assert "nested 301 deep" in refuse_rendering(deep)
    rows = "".join(f'<g id="g{i}">' + f'<use href="#g{i - 1}"/>' * 10 + "</g>" for i in range(1, 9))
    assert "elements" in refuse_rendering(repair_drawing(f'{HEAD}<g id="g0"/>{rows}</svg>'))
    assert refuse_rendering(repair_drawing("nothing"))
    assert not refuse_rendering(repair_drawing(RED))


@pytest.mark.parametrize(
    "size",
    [
        'width="1" viewBox="0 0 1e300 1e-320"',
        'width="1e999" height="1e999"',
        'width="1e300" viewBox="0 0 1 1e300"',
        'viewBox="0 0 1e999 1e999"',
        'width="-5" height="5"',
        'height="1" viewBox="0 0 1e-320 1e300"',
    ],
)
def test_a_size_that_no_picture_has_is_an_error_not_a_crash(size: str) -> None:
    text = RED.replace('viewBox="0 0 10 10"', size)
    checked = check_drawing(text, "x")
    json.dumps(checked.as_json(), allow_nan=False)
    refusal = refuse_rendering(checked.drawing)
    if refusal:
        with pytest.raises(RuntimeFailed, match="its size is"):
            render_drawing(checked.drawing, width=64)
    else:
        assert render_drawing(checked.drawing, width=64)


def test_the_surroundings_show_what_lies_outside_of_the_frame() -> None:
    text = f'{HEAD}<rect x="-5" y="2" width="10" height="5"/></svg>'
    drawing = repair_drawing(text)
    (wide,) = render_jobs([RenderJob(drawing.surroundings, 1.0, 30)])
    pixels = decode_png(wide.png)
    painted = {x for x in range(30) if pixels.at(x, 14)[3]}
    assert painted == set(range(5, 15))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "text"), list(good_drawings()))
def test_the_middle_of_the_surroundings_is_the_drawing(name: str, text: str) -> None:
    drawing = repair_drawing(text)
    assert drawing.frame is not None
    ratio = drawing.frame.width / drawing.frame.height
    plain, wide = render_jobs(
        [RenderJob(text, ratio, 60), RenderJob(drawing.surroundings, ratio, 180)]
    )
    small, large = decode_png(plain.png), decode_png(wide.png)
    assert large.width == 3 * small.width, name
    # Edges fall on other places within a pixel: compare how much is painted.
    inside = sum(large.at(small.width + x, small.height + y)[3] > 0
                 for x in range(small.width) for y in range(small.height))  # fmt: skip
    painted = sum(alpha > 0 for alpha in small.rgba[3::4])
    assert abs(inside - painted) <= 0.1 * small.width * small.height, name


def test_the_decoder_of_png_agrees_with_the_drawing() -> None:
    # Every filter of PNG occurs in a picture with flat parts, edges and gradients.
    text = next(text for name, text in good_drawings() if name == "gradient")
    pixels = decode_png(resvg_py.svg_to_bytes(svg_string=text, width=200, skip_system_fonts=True))
    assert (pixels.width, pixels.height) == (200, 120)
    assert pixels.at(60, 100) == (0x30, 0x50, 0x30, 255)
    assert pixels.at(100, 1)[2] > pixels.at(100, 1)[0]

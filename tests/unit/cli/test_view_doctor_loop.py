"""The rows of `g4 doctor FILE --loop` in terminals of several widths."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from rich.cells import cell_len

from g4cli.cli.output import Output
from g4cli.cli.views.doctor_loop import draw_experiment
from g4cli.doctor.loop.outcome import LoopResult, Repetition
from g4cli.doctor.loop.settings import LoopSettings

LOOP = LoopResult(
    LoopSettings(n_context=1200, sampled=True, bos=False, flash_attention=False, kv_type="q4_0"),
    "loop",
    n_tokens=384,
    seconds=75.0,
    repetition=Repetition(40, 344),
    unit="the same sentence as before, again and again",
)
RESULTS = {
    "a loop": LOOP,
    "wide characters": replace(LOOP, unit="\u540c\u3058\u6587" * 20),
    "a short answer": LoopResult(LoopSettings(), "ended", n_tokens=9, seconds=0.4, text="Hello."),
    "a long reason": LoopResult(LoopSettings(), "failed", seconds=1.0, reason="it crashed " * 30),
    "not run": LoopResult(LoopSettings(tools=True), "skipped", reason="no time was left"),
}


def draw(result: LoopResult, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "dumb")  # no styles
    draw_experiment(Output(), result, 12, 580.0)


@pytest.mark.parametrize("width", [80, 100, 120, 160])
@pytest.mark.parametrize("name", RESULTS)
def test_no_row_is_wider_than_the_terminal(
    name: str,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    draw(RESULTS[name], width, monkeypatch)
    first, *more = capsys.readouterr().out.splitlines()
    assert all(cell_len(line) <= width for line in (first, *more))
    if width < 140:
        assert more
        assert all(line.startswith("     ") for line in more), "the settings stand alone"


def test_elsewhere_a_row_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(LOOP, 80, monkeypatch)
    (line,) = capsys.readouterr().out.splitlines()
    assert "repeats 40 tokens from token 345 on" in line
    assert line.endswith("'the same sentence as before, aga'  1 min 15 s  (12 left, 9 min 40 s)")

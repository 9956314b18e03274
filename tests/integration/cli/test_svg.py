"""g4 svg: drawings in files and answers, checked, repaired, rendered and shown."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from g4cli.cli.views.picture import (
    choose_picture_protocol,
    draw_half_blocks,
    encode_iterm2,
    encode_kitty,
)
from g4cli.core.png import Pixels, decode_png
from g4cli.operations.svg import decode_answer
from tests.support.builders.svg_defects import good_drawings
from tests.support.run.command import g4
from tests.support.schemas import validate_output

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">'
BROKEN = f'Here:\n```svg\n{HEAD}<rect width="5" width="6" height="5"/></svg>\n```\n'
REPAIRED = f'{HEAD}<rect width="5" height="5"/></svg>'
LOST = f'{HEAD}<path d="M0 0 L5"/><rect width="1" height="1"/></svg>'


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "answer.txt"
    path.write_text(BROKEN)
    return path


@pytest.mark.slow
def test_check_names_faults_and_changes_nothing(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = g4(capsys, "svg", "check", broken)
    assert code == 8
    assert "attribute width of <rect> is given twice, with different values" in out
    assert "3:" in out
    assert broken.read_text() == BROKEN
    assert "well-formed: no, 2 faults" in out
    broken.write_text(LOST.replace("L5", "L5 5").replace("<rect", '<rect x="1" x="1"'))
    assert "well-formed: no, 1 fault\n" in g4(capsys, "svg", "check", broken)[1]


@pytest.mark.slow
def test_check_of_a_good_drawing_leaves_with_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in list(good_drawings())[:5]:
        path = tmp_path / f"{name}.svg"
        path.write_text(text)
        code, out, err = g4(capsys, "svg", "check", path)
        assert (code, err) == (0, ""), out
        assert "no faults" in out


@pytest.mark.slow
def test_fix_writes_the_repaired_drawing(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.svg"
    assert g4(capsys, "svg", "fix", broken, target)[0] == 0
    assert target.read_text() == REPAIRED
    code, _, err = g4(capsys, "svg", "fix", broken, target)
    assert code == 2
    assert "--force" in err
    assert g4(capsys, "svg", "fix", target, target, "--force")[0] == 0
    assert target.read_text() == REPAIRED


@pytest.mark.slow
def test_fix_filters_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Its encoding is found as that of a file, whatever the locale is.
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(BROKEN.encode("utf-16")), "ascii"))
    code, out, err = g4(capsys, "svg", "fix", "-")
    assert (code, out) == (0, REPAIRED)
    assert "2 faults, all repaired" in err


def test_check_reads_a_pipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As `g4 svg check <(command)` gives it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(REPAIRED,))
    writer.start()
    code, _, _ = g4(capsys, "svg", "check", pipe)
    writer.join()
    assert code == 0


@pytest.mark.slow
def test_fix_leaves_with_8_when_something_cannot_be_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "a.svg", tmp_path / "b.svg"
    source.write_text(LOST)
    code, out, _ = g4(capsys, "svg", "fix", source, target)
    assert code == 8
    assert "path data are wrong" in out
    assert "0 faults repaired, 1 cannot be repaired" in out
    assert target.read_text() == LOST


def test_a_text_that_is_too_large_is_not_said_to_hold_a_drawing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.txt"
    source.write_text("x" * 4_200_000)
    code, out, _ = g4(capsys, "svg", "check", source)
    assert code == 8
    assert "found: not tried, the text is too large" in out


@pytest.mark.parametrize("text", ["no drawing at all", ""])
def test_a_text_without_a_drawing_leaves_with_8_and_writes_nothing(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "a.txt", tmp_path / "b.svg"
    source.write_text(text)
    assert g4(capsys, "svg", "check", source)[0] == 8
    assert g4(capsys, "svg", "fix", source, target)[0] == 8
    assert g4(capsys, "svg", "fix", source, target, "-q")[:2] == (8, "")
    assert json.loads(g4(capsys, "svg", "fix", source, target, "--json")[1])["path"] is None
    assert not target.exists()


@pytest.mark.parametrize("declared", ["UTF-16", "UTF-7", "unicode_escape", "idna", "cp037"])
@pytest.mark.parametrize("end", [b"", b" "])
def test_a_declared_encoding_that_a_text_in_ascii_cannot_have_is_not_believed(
    declared: str, end: bytes
) -> None:
    text = f'<?xml version="1.0" encoding="{declared}"?>{HEAD}<title>\\ud800 +AEE- é</title></svg>'
    assert decode_answer(text.encode() + end) == text + end.decode()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig"])
def test_other_encodings_are_read(
    tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = {"latin-1": "ISO-8859-1", "utf-16": "UTF-16", "utf-8-sig": "UTF-8"}[encoding]
    source, target = tmp_path / "a.svg", tmp_path / "b.svg"
    source.write_bytes(
        f'<?xml version="1.0" encoding="{declared}"?>{HEAD}<title>é</title><rect width="1" '
        'height="1"/></svg>'.encode(encoding)
    )
    assert g4(capsys, "svg", "fix", source, target)[0] == 0
    assert "<title>é</title>" in target.read_text(encoding="utf-8-sig")


@pytest.mark.slow
def test_png_is_as_wide_as_asked(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.png"
    assert g4(capsys, "svg", "png", broken, target, "--width", "20")[0] == 0
    pixels = decode_png(target.read_bytes())
    assert (pixels.width, pixels.height) == (20, 20)
    assert pixels.at(5, 5) == (0, 0, 0, 255)
    assert pixels.at(15, 5)[3] == 0


@pytest.mark.slow
def test_show_of_a_text_without_a_drawing_exits_as_check_and_fix_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("I cannot draw.")
    for command in ("show", "check", "fix"):
        code, out, err = g4(capsys, "svg", command, tmp_path / "a.txt")
        assert code == 8, command
        assert "no drawing that can be repaired was found" in out + err


@pytest.mark.slow
def test_show_draws_nothing_without_a_terminal(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = g4(capsys, "svg", "show", broken)
    assert (code, out) == (0, "")
    assert "g4 svg png" in err


@pytest.mark.slow
def test_a_hostile_name_or_value_moves_no_cursor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.svg"
    source.write_text(f'{HEAD}<rect fill="\x9b2J\u202e" width="1" height="1"/></svg>')
    _, out, err = g4(capsys, "svg", "check", source)
    assert not {"\x9b", "\u202e"} & set(out + err)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["check", "fix", "png"])
def test_json_is_what_the_schema_says(
    broken: Path, tmp_path: Path, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {"check": [], "fix": [], "png": [tmp_path / "out.png"]}[action]
    _, out, err = g4(capsys, "svg", action, broken, *arguments, "--json")
    data: dict[str, Any] = json.loads(out)
    validate_output(data, "svg")
    assert err == ""
    assert [f["rule"] for f in data["findings"]] == ["text-around", "conflicting-attribute"]
    assert all(stage["passed"] is not None for stage in data["stages"])
    assert (data["flawless"], data["repaired"]) == (False, True)
    if action == "fix":
        assert data["svg"] == REPAIRED


@pytest.mark.parametrize(
    ("environment", "way"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/1"}, "blocks"),
        ({"TERM": "dumb"}, "none"),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, "none"),
        ({}, "none"),
        ({"TERM": "xterm-kitty", "NO_COLOR": ""}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1", "STY": "1"}, "blocks"),
        (
            {"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1", "XTERM_VERSION": "XTerm(379)"},
            "blocks",
        ),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1", "TERM_PROGRAM": "vscode"}, "blocks"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty", "ZELLIJ": "0"}, "blocks"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, "blocks-256"),
    ],
)
def test_the_terminal_decides_how_a_picture_is_shown(environment: dict[str, str], way: str) -> None:
    assert choose_picture_protocol(environment) == way


def test_protocols_carry_the_png() -> None:
    import base64

    png = bytes(range(256)) * 40
    pieces = encode_kitty(png).split("\x1b\\")[:-1]
    assert pieces[0].startswith("\x1b_Ga=T,f=100,m=1;")
    assert all(len(piece.partition(";")[2]) <= 4096 for piece in pieces)
    assert [piece.partition(";")[0][-1] for piece in pieces] == ["1"] * (len(pieces) - 1) + ["0"]
    text = "".join(piece.partition(";")[2] for piece in pieces)
    assert base64.b64decode(text) == png
    assert base64.b64decode(encode_iterm2(png)[:-1].partition(":")[2]) == png


def test_half_blocks_show_two_rows_of_pixels_in_one_of_text() -> None:
    red, clear = b"\xff\x00\x00\xff", bytes(4)
    lines = list(draw_half_blocks(Pixels(2, 3, red + clear + clear + red + red + red)))
    assert len(lines) == 2
    assert "38;2;255;0;0;49m▀" in lines[0]
    assert "38;2;255;0;0m▄" in lines[0]
    (line,) = draw_half_blocks(Pixels(1, 1, b"\xff\x5f\x00\xff"), in_palette=True)
    assert line.startswith("\x1b[38;5;202;49m▀")  # orange: 16 + 36 * 5 + 6 * 1

"""Check a drawing, repair it, render it, and test that the result works, for `g4 svg`."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import RuntimeFailed, UsageError
from g4cli.core.files import atomic_file, is_there, read_input, require_file_target
from g4cli.core.paths import expand_home
from g4cli.core.png import decode_png
from g4cli.runtime.render.render import Rendering, RenderJob, refuse_rendering, render_jobs
from g4cli.svg.grade import Proof, Stage, grade_drawing, is_blank, measure_frame
from g4cli.svg.repair import TEXT_LIMIT, Drawing, find_parse_error, repair_drawing
from g4cli.svg.rules import RULES

# A choice: pixels of the longer side of the test rendering, enough to see whether it is blank. It
# is rendered a second time with its surroundings, in a frame three times as wide and high, in which
# measure_frame looks for what lies outside of the drawing's own frame.
_PROOF_SIDE: Final = 96
_DECLARED_ENCODING: Final = re.compile(
    rb"""\A\s*<\?xml\b[^>]*\bencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']"""
)
# A declared encoding is used only if it decodes these bytes as ASCII does, as the bytes of the
# declaration itself were read. UTF-16 and EBCDIC do not. The escapes rule out codecs of Python that
# are no encodings of XML: unicode_escape, UTF-7, and idna, which takes quadratic time.
_ASCII_SAMPLE: Final = rb"<?xml \u0041 +AEE- .xn--bcher-kva"
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class CheckedDrawing:
    """A drawing, repaired as far as possible, and its grade.

    `name` is that of its file, or such as "the answer". `proof` is None if there is no drawing that
    could be tried. `stages` are those of the grade, passed or not.
    """

    name: str
    drawing: Drawing
    proof: Proof | None
    stages: tuple[Stage, ...]

    @property
    def is_flawless(self) -> bool:
        """Whether the drawing works and has no faults; findings about style are not faults."""
        return not any(finding.kind != "style" for finding in self.drawing.findings) and self.works

    @property
    def is_repaired(self) -> bool:
        """Whether the repaired drawing works and no fault is left in it."""
        return not self.drawing.unrepaired and self.works

    @property
    def works(self) -> bool:
        """Whether the repaired drawing parses, renders and is not blank, as far as was tried."""
        proof = self.proof
        return proof is not None and not (proof.parse_error or proof.render_error or proof.is_blank)

    def as_json(self) -> dict[str, Any]:
        """Return the document of `g4 svg --json`: docs/reference/schemas/svg.json."""
        frame = self.drawing.frame
        return {
            "name": self.name,
            "flawless": self.is_flawless,
            "repaired": self.is_repaired,
            "stages": [stage.as_json() for stage in self.stages],
            "width": frame.width if frame else None,
            "height": frame.height if frame else None,
            "findings": [
                {
                    "rule": finding.rule,
                    "kind": finding.kind,
                    "line": finding.line,
                    "column": finding.column,
                    "message": RULES[finding.rule].message.replace("{}", finding.detail),
                    "repaired": finding.repaired,
                    "repair": describe_repair(finding.rule, finding.detail)
                    if finding.repaired
                    else "",
                }
                for finding in self.drawing.findings
            ],
        }


def describe_repair(rule: str, detail: str) -> str:
    """Return what the repair of a fault does, or "" if it has no repair."""
    return RULES[rule].repair.replace("{}", detail)


def read_answer(path: Path) -> str:
    """Return the text of a file that contains a drawing, or an answer with one; "-" as read_input.

    The encoding is given by its byte order mark, else by its XML declaration, else it is UTF-8. A
    declaration that can be read as ASCII is wrong about UTF-16, which editors often declare.
    Raises FileMissing, UsageError, or BadFile if the file is too large.
    """
    return decode_answer(read_input(expand_home(path), 4 * TEXT_LIMIT))


def decode_answer(data: bytes) -> str:
    """Return the text of a file; bytes that are invalid in its encoding become U+FFFD."""
    declared = _DECLARED_ENCODING.match(data)
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "")
    if not encoding and declared:
        encoding = declared[1].decode()
    try:
        if declared and _ASCII_SAMPLE.decode(encoding) != _ASCII_SAMPLE.decode():
            encoding = ""
        return data.decode(encoding or "utf-8")
    except (LookupError, ValueError):  # unknown, or not what the file declares
        return data.decode("utf-8", "replace")


def check_drawing(answer: str, name: str) -> CheckedDrawing:
    """Return the drawing in `answer`, repaired, tested and graded; `name` is shown as its name."""
    drawing = repair_drawing(answer)
    proof = None if drawing.text is None else _try_drawing(drawing)
    return CheckedDrawing(name, drawing, proof, grade_drawing(drawing, proof))


def _try_drawing(drawing: Drawing) -> Proof:
    """Return whether the repaired drawing parses and renders, and how much of it is visible."""
    proof = Proof(find_parse_error(drawing.text or "") or "")
    refusal = refuse_rendering(drawing)
    if proof.parse_error or refusal:
        return replace(proof, render_error=refusal or None)
    plain, wide = render_jobs(
        [
            RenderJob(drawing.text or "", _find_aspect_ratio(drawing), _PROOF_SIDE),
            RenderJob(drawing.surroundings, _find_aspect_ratio(drawing), 3 * _PROOF_SIDE),
        ]
    )
    if plain.error:
        return replace(proof, render_error=plain.error)
    blank = is_blank(decode_png(plain.png))
    share = measure_frame(decode_png(wide.png)) if wide.png and not blank else None
    return replace(proof, render_error="", is_blank=blank, in_frame=share)


def _find_aspect_ratio(drawing: Drawing) -> float:
    frame = drawing.frame
    return frame.width / frame.height if frame else 1.0


def render_drawing(drawing: Drawing, *, width: int | None = None, most: int | None = None) -> bytes:
    """Return a drawing as PNG, `width` pixels wide, or else in the size that it declares.

    `most` limits the pixels of the longer side, also with `width`. Raises RuntimeFailed if it
    cannot be rendered.
    """
    frame = drawing.frame
    error = refuse_rendering(drawing)
    rendered = Rendering(error=error)
    if not error and frame is not None and drawing.text is not None:
        ratio = _find_aspect_ratio(drawing)
        side = round(max(frame.width, frame.height))
        if width is not None:
            side = round(width if ratio >= 1 else width / ratio)
        side = max(1, min(side, most or side))
        (rendered,) = render_jobs([RenderJob(drawing.text, ratio, side)])
    if rendered.error:
        raise RuntimeFailed(f"the drawing cannot be rendered: {rendered.error}")
    return rendered.png


def require_drawing_target(path: Path) -> None:
    """Raise UsageError unless `path` ends with .svg or .png and no file is there."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"the name {path} must end with .svg or .png")
    if is_there(expand_home(path)):
        raise UsageError(f"{path} already exists", hint="choose another file name")


def save_drawing(drawing: Drawing, path: Path) -> None:
    """Write a repaired drawing to a new file, as PNG or SVG according to its suffix.

    Raises what require_drawing_target raises, and RuntimeFailed if it cannot be rendered.
    """
    require_drawing_target(path)
    is_png = path.suffix.lower() == ".png"
    content = render_drawing(drawing) if is_png else (drawing.text or "").encode()
    write_result(expand_home(path), content)


def write_result(path: Path, content: bytes, *, replace_file: bool = False) -> None:
    """Write `content` to `path`. Raises UsageError if it exists, unless `replace_file`."""
    if require_file_target(path) and not replace_file:
        raise UsageError(f"{path} already exists", hint="add --force to overwrite it")
    with atomic_file(path, expected_bytes=len(content)) as file:
        file.write(content)

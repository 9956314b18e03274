"""What `g4 svg` does: check a drawing, repair it, render it, and prove that the result works."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import BadFile, RuntimeFailed, UsageError
from g4cli.core.files import atomic_file, is_there, open_file, require_file
from g4cli.core.png import decode_png
from g4cli.core.quoting import shell_command
from g4cli.core.units import size_text
from g4cli.runtime.render.render import Rendering, RenderJob, refuse_rendering, render_jobs
from g4cli.svg.grade import Proof, Stage, grade_drawing, is_blank, measure_frame
from g4cli.svg.repair import TEXT_LIMIT, Drawing, find_parse_error, repair_drawing
from g4cli.svg.rules import RULES

# A picture of which side is judged: enough to see whether there is anything, quick to decode.
_PROOF_SIDE: Final = 96
_DECLARED: Final = re.compile(
    rb"""\A\s*<\?xml\b[^>]*\bencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']"""
)
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class CheckedDrawing:
    """A drawing, repaired as far as possible, and its grade."""

    name: str
    drawing: Drawing
    proof: Proof | None
    stages: tuple[Stage, ...]

    @property
    def is_flawless(self) -> bool:
        """Whether it is right as it came, matters of style left out."""
        return not any(finding.kind != "style" for finding in self.drawing.findings) and self.works

    @property
    def is_repaired(self) -> bool:
        """Whether nothing is left that is wrong, matters of style left out."""
        return not self.drawing.unrepaired and self.works

    @property
    def works(self) -> bool:
        """Whether the repaired drawing opens, renders and shows something, as far as was tried."""
        proof = self.proof
        return proof is not None and not (proof.parse_error or proof.render_error or proof.is_blank)

    def as_json(self) -> dict[str, Any]:
        """Return the result as docs/reference/schemas/svg.json describes it."""
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
    """Return what the repair of a fault does, '' if there is none."""
    return RULES[rule].repair.replace("{}", detail)


def read_answer(path: Path) -> str:
    """Return the text of a file that holds a drawing, or an answer with one.

    The encoding is that of its byte order mark, else the declared one, else UTF-8. Raises
    FileMissing, UsageError, or BadFile if it is too large.
    """
    path = require_file(path.expanduser())
    with open_file(path) as file:
        data = file.read(4 * TEXT_LIMIT + 1)
    if len(data) > 4 * TEXT_LIMIT:
        raise BadFile(
            f"{path}: larger than {size_text(4 * TEXT_LIMIT)}", hint=shell_command("ls", "-l", path)
        )
    return decode_answer(data)


def decode_answer(data: bytes) -> str:
    """Return the characters of a file; what is no character of its encoding becomes U+FFFD."""
    declared = _DECLARED.match(data)
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    if not encoding and declared:
        encoding = declared[1].decode()
    try:
        return data.decode(encoding or "utf-8")
    except (LookupError, ValueError):  # unknown, or not what the file declares
        return data.decode("utf-8", "replace")


def check_drawing(answer: str, name: str) -> CheckedDrawing:
    """Return the drawing in `answer`, repaired, proved and graded. `name` says where it is from."""
    drawing = repair_drawing(answer)
    proof = None
    if drawing.text is not None:
        proof = _prove(drawing)
    return CheckedDrawing(name, drawing, proof, grade_drawing(drawing, proof))


def _prove(drawing: Drawing) -> Proof:
    """Return whether the repaired drawing opens, renders, shows anything, and where."""
    proof = Proof(find_parse_error(drawing.text or "") or "")
    refusal = refuse_rendering(drawing)
    if proof.parse_error or refusal:
        return replace(proof, render_error=refusal or None)
    plain, wide = render_jobs(
        [
            RenderJob(drawing.text or "", _ratio(drawing), _PROOF_SIDE),
            RenderJob(drawing.surroundings, _ratio(drawing), 3 * _PROOF_SIDE),
        ]
    )
    if plain.error:
        return replace(proof, render_error=plain.error)
    blank = is_blank(decode_png(plain.png))
    share = measure_frame(decode_png(wide.png)) if wide.png and not blank else None
    return replace(proof, render_error="", is_blank=blank, in_frame=share)


def _ratio(drawing: Drawing) -> float:
    frame = drawing.frame
    return frame.width / frame.height if frame else 1.0


def render_drawing(drawing: Drawing, *, width: int | None = None, most: int | None = None) -> bytes:
    """Return a drawing as PNG, `width` pixels wide, else as large as it says, `most` pixels at most.

    Raises RuntimeFailed if it cannot be rendered.
    """
    frame = drawing.frame
    error = refuse_rendering(drawing)
    rendered = Rendering(error=error)
    if not error and frame is not None and drawing.text is not None:
        ratio = _ratio(drawing)
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
        raise UsageError(f"{path} ends with neither .svg nor .png")
    if is_there(path.expanduser()):
        raise UsageError(f"{path} exists", hint="name a new file")


def save_drawing(drawing: Drawing, path: Path) -> None:
    """Write a repaired drawing to a new file, as PNG if its name ends so.

    Raises UsageError if the name is wrong or taken, RuntimeFailed if it cannot be rendered.
    """
    require_drawing_target(path)
    is_png = path.suffix.lower() == ".png"
    content = render_drawing(drawing) if is_png else (drawing.text or "").encode()
    write_result(path.expanduser(), content)


def write_result(path: Path, content: bytes, *, replace_file: bool = False) -> None:
    """Write `content` to `path`. Raises UsageError if a file is there that is not to be replaced."""
    if path.exists() and not replace_file:
        raise UsageError(f"{path} exists", hint="add --force to replace it")
    with atomic_file(path, expected_bytes=len(content)) as file:
        file.write(content)

"""A vision or audio tower (mmproj): is it one, is it whole, and does a model beside it have its width?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from g4cli.core.errors import G4Error
from g4cli.core.file_kind import PROJECTORS
from g4cli.core.gguf import read_header
from g4cli.core.gguf_header import Header
from g4cli.core.hub_name import is_on_hub
from g4cli.core.registry import MODELS
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped

if TYPE_CHECKING:
    from g4cli.doctor.facts.file_facts import FileFacts

RECONVERT: Final = "get the mmproj of the same model: g4 pull MODEL"
_OUTPUT: Final = {"vision": "mm.input_projection.weight", "audio": "mm.a.input_projection.weight"}


def _towers(header: Header) -> list[str]:
    return [t for t in PROJECTORS if header.get(f"clip.has_{t}_encoder", bool, default=False)]


def check_projector(facts: FileFacts) -> Outcome:
    """Compare the projectors with those of Gemma 4, and their widths with the table of sizes."""
    header = facts.header
    if (
        header is None
        or header.keys.get("general.architecture") is None
        or header.architecture != "clip"
    ):
        return skipped("not an mmproj file")
    towers = _towers(header)
    if not towers:
        return fail(
            "the file holds neither a vision nor an audio encoder",
            RECONVERT,
            cause="conversion-defect",
        )
    bad, widths = [], set()
    for tower in towers:
        key = header.keys.get(f"clip.{tower}.projector_type") or header.keys.get(
            "clip.projector_type"
        )
        kind = str(key.data) if key is not None else "missing"
        if kind not in PROJECTORS[tower]:
            bad.append(
                f"the {tower} projector is {kind!r}, expected {' or '.join(PROJECTORS[tower])}"
            )
        width = header.keys.get(f"clip.{tower}.projection_dim")
        if width is not None:
            widths.add(width.data)
            tensor = header.tensors.get(_OUTPUT[tower])
            if tensor is None:
                bad.append(f"{_OUTPUT[tower]} is missing")
            elif len(tensor.shape) == 2 and tensor.shape[1] != width.data:
                bad.append(
                    f"{_OUTPUT[tower]} gives {tensor.shape[1]} numbers, the keys say {width.data}"
                )
    if bad:
        return fail("; ".join(bad), RECONVERT, cause="conversion-defect", detail=tuple(bad))
    names = [m.name for m in MODELS if m.shape.n_embd in widths]
    return ok(
        f"{' and '.join(towers)} for a model of width {'/'.join(map(str, sorted(widths, key=str)))}"
        + (f" ({', '.join(names)})" if names else "")
    )


def check_neighbours(facts: FileFacts) -> Outcome:
    """An mmproj must have the width of the model it is used with: look at the only pair in the folder."""
    header = facts.header
    folder = Path(facts.path).parent
    if header is None or is_on_hub(facts.path) or header.keys.get("general.architecture") is None:
        return skipped("no pair to compare")
    mine = header.architecture
    if mine not in ("clip", "gemma4") or facts.depth == "quick":
        return skipped("no pair to compare")
    wanted = "gemma4" if mine == "clip" else "clip"
    others = [p for p in sorted(folder.glob("*.gguf"))[:12] if p.name != Path(facts.path).name]
    found = [h for p in others if (h := _header(p)) is not None and h.architecture == wanted]
    if len(found) != 1:
        return skipped("no pair to compare")
    text, tower = (found[0], header) if mine == "clip" else (header, found[0])
    width = text.get("gemma4.embedding_length", int, default=0)
    bad = {
        int(v.data)
        for t in _towers(tower)
        if (v := tower.keys.get(f"clip.{t}.projection_dim")) is not None
        and isinstance(v.data, int)
        and v.data != width
    }
    other = Path(found[0].path).name
    if not bad:
        return ok(f"fits {other}")
    # Two files in one folder need not belong together: only the mmproj is said to have no model here.
    text_found = (
        f"the model beside it ({other}) is {width} wide, this mmproj is for {sorted(bad)[0]}"
    )
    if mine == "clip":
        return fail(text_found, RECONVERT, cause="conversion-defect", confidence="medium")
    return skipped(f"{other} beside it belongs to another model")


def _header(path: Path) -> Header | None:
    try:
        header = read_header(path, check_data=False)
    except (G4Error, OSError):
        return None
    return header if "general.architecture" in header.keys else None


CHECKS: Final = (
    Check("mmproj.projector", check_projector),
    Check("mmproj.pair", check_neighbours),
)

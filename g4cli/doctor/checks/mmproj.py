"""Checks of an mmproj file: its encoders, and the hidden size of the model in its folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from g4cli.core.file_kind import MMPROJ, PROJECTORS, TEXT, text_key
from g4cli.core.gguf_header import Header
from g4cli.core.gguf_values import find_data
from g4cli.core.registry import MODELS
from g4cli.doctor.checks.advice import GET_MMPROJ
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped

_fail = partial(fail, fix=GET_MMPROJ, cause="conversion-defect")

# The last matrix of each encoder: its rows are the hidden size of the text network.
_OUTPUT: Final = {"vision": "mm.input_projection.weight", "audio": "mm.a.input_projection.weight"}


def _list_encoders(header: Header) -> list[str]:
    """Return which of "vision" and "audio" the keys say that the file holds."""
    return [e for e in PROJECTORS if find_data(header.keys, f"clip.has_{e}_encoder", bool)]


def check_projector(facts: FileFacts) -> Outcome:
    """Compare the projectors with those of Gemma 4, and tensors with the keys."""
    header = facts.header
    if header is None or text_key(header, "general.architecture") != MMPROJ:
        return skipped("not an mmproj file")
    encoders = _list_encoders(header)
    if not encoders:
        return _fail("the file holds neither a vision nor an audio encoder")
    bad, widths = [], set()
    for encoder in encoders:
        kind = find_data(header.keys, f"clip.{encoder}.projector_type", object)
        kind = kind or find_data(header.keys, "clip.projector_type", object) or "missing"
        if kind not in PROJECTORS[encoder]:
            bad.append(
                f"the {encoder} projector is {kind!r}, expected {' or '.join(PROJECTORS[encoder])}"
            )
        width = find_data(header.keys, f"clip.{encoder}.projection_dim", object)
        if width is not None:
            widths.add(width)
            tensor = header.tensors.get(_OUTPUT[encoder])
            if tensor is None:
                bad.append(f"{_OUTPUT[encoder]} is missing")
            elif len(tensor.shape) == 2 and tensor.shape[1] != width:
                bad.append(
                    f"{_OUTPUT[encoder]} has {tensor.shape[1]} outputs, the keys say {width}"
                )
    if bad:
        return _fail("; ".join(bad), detail=tuple(bad))
    names = [m.name for m in MODELS if m.shape.n_embd in widths]
    return ok(
        f"{' and '.join(encoders)} for a model of hidden size "
        + "/".join(sorted(map(str, widths)))
        + (f" ({', '.join(names)})" if names else "")
    )


def check_pair(facts: FileFacts) -> Outcome:
    """Compare an mmproj with the model in its folder, if there is exactly one of each."""
    header = facts.header
    assert header is not None
    own = text_key(header, "general.architecture")
    wanted = {MMPROJ: TEXT, TEXT: MMPROJ}.get(own)
    others = [h for h in facts.neighbors if text_key(h, "general.architecture") == wanted]
    if len(others) != 1:
        return skipped("no other file to compare with")
    text, mmproj = (others[0], header) if own == MMPROJ else (header, others[0])
    width = find_data(text.keys, f"{TEXT}.embedding_length", object) or "no number"
    widths = [
        find_data(mmproj.keys, f"clip.{e}.projection_dim", object) for e in _list_encoders(mmproj)
    ]
    wrong = {w for w in widths if isinstance(w, int) and w != width}
    other = Path(others[0].path).name
    if not wrong:
        return ok(f"fits {other}")
    # Two files in one folder need not belong together: the mmproj fails, the model does not.
    if own == MMPROJ:
        return _fail(
            f"the model in its folder ({other}) has the hidden size {width}, this mmproj is for "
            f"{min(wrong)}",
            confidence="medium",
        )
    return skipped(f"{other} in the same folder belongs to another model")


CHECKS: Final = (
    Check("mmproj.projector", check_projector),
    Check("mmproj.pair", check_pair),
)

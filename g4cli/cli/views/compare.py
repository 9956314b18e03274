"""The result of `g4 compare` in the terminal: a table by model, and where the report is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from g4cli.cli.output import Output
from g4cli.cli.views.compare_figures import (
    QUALITY_HEADINGS,
    list_fault_rows,
    list_quality_rows,
    list_summary_rows,
    name_models,
)
from g4cli.cli.views.compare_html import GENERATOR, make_html
from g4cli.core.errors import UsageError
from g4cli.core.files import atomic_file, open_file

_MAX_FAULTS = 12  # rows in the terminal; the report has all


def require_report_target(path: Path) -> None:
    """Raise UsageError unless `path` ends with .html and is free or a report of g4 compare."""
    if path.suffix.lower() != ".html":
        raise UsageError(f"the name {path} must end with .html", hint="-o compare.html")
    if not path.parent.is_dir():
        raise UsageError(f"no such folder: {path.parent}", hint="-o compare.html")
    if path.exists():
        with open_file(path) as file:
            is_ours = GENERATOR.encode() in file.read(4096)
        if not is_ours:
            raise UsageError(
                f"{path} exists and is not a report of g4 compare", hint="-o other.html"
            )


def write_report(document: Mapping[str, Any], path: Path) -> None:
    """Write the report to `path`. Raises UsageError or NoSpace."""
    data = make_html(document).encode("utf-8", "replace")
    with atomic_file(path, expected_bytes=len(data)) as file:
        file.write(data)


def draw_comparison(out: Output, document: Mapping[str, Any], report: Path) -> None:
    """Draw the tables of a comparison, and say where its report is.

    `document` is as docs/reference/schemas/compare.json describes it.
    """
    labels = name_models(document["models"])
    if rows := list_summary_rows(document):
        out.table(["", *labels], rows)
    if quality := list_quality_rows(document):
        out.table(QUALITY_HEADINGS, quality, right=(1, 3, 4, 5))
    if faults := list_fault_rows(document):
        out.table(["faults of the drawings", "", *labels], faults[:_MAX_FAULTS])
        if len(faults) > _MAX_FAULTS:
            out.line(f"and {len(faults) - _MAX_FAULTS} more (in the report)")
    if document["opinions"]:
        out.line(f"the judge {document['run']['judge']} gives opinions, not measurements")
    for model in document["models"]:
        if model["problem"]:
            out.line(f"{model['label']}: {model['problem']}")
    if not document["run"]["complete"]:
        out.say("results are missing: run the same command again to get them")
    out.line(f"report: {report}")

"""A diagnosis as Markdown for a bug report: nothing in it says who or where the user is.

What comes from the file stands in code spans: there neither links nor images, mentions, HTML or references to
issues are read, whatever renders it.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
from pathlib import Path
from typing import Final

from g4cli.core.hub_name import is_on_hub
from g4cli.core.visible import one_line
from g4cli.doctor.checks.machine import LIBRARIES, installed_version
from g4cli.doctor.report import Report

HEADING: Final = "# g4 doctor: "
_PLACES: Final = 40


def bug_report(report: Report) -> str:
    """Return the report as Markdown; paths are cut to file names, the user's name is taken out."""

    def shown(text: str) -> str:
        return _code(private(text, report.subject))

    findings = [f for f in report.worst_first if f.status != "skipped"]
    detail = [f for f in findings if f.status == "fail" and f.detail]
    places = [
        f"- {f.id}: {shown(', '.join(f.detail[:_PLACES]))}"
        + (f" ... ({len(f.detail)})" if len(f.detail) > _PLACES else "")
        for f in detail
    ]
    versions = [f"g4 {installed_version('g4cli')}", f"Python {platform.python_version()}"]
    libraries = ", ".join(f"{n} {v}" for n, _ in LIBRARIES if (v := installed_version(n)))
    lines = [
        f"{HEADING}{report.verdict} ({report.confidence})",
        "",
        f"File: {_code(Path(report.subject).name)}. {report.summary[:1].upper()}{report.summary[1:]}.",
        "",
        *(f"- **{f.status}** {f.id}: {shown(f.found)}" for f in findings),
        *(["", "Places:", "", *places] if places else []),
        "",
        ", ".join((*versions, platform.platform())),
        libraries,
        "",
    ]
    return "\n".join(lines)


def private(text: str, subject: str) -> str:
    """Return `text` without folders of the subject, of the home, or any other absolute path.

    `subject` is the file as the user named it. What says where it lies may hold blanks and parentheses.
    """
    name = Path(subject).name
    for path in _spellings(Path(subject)):
        text = text.replace(path, name)
    for folder in _folders(Path(subject)):
        place = rf"(?<![\w.]){re.escape(folder)}"
        text = re.sub(rf"{place}(?![\w.-])", "FOLDER", re.sub(place + re.escape(os.sep), "", text))
    text = re.sub(r"(?<=['\"])/[^'\"\n]*/([^'\"\n]*)(?=['\"])", r"\1", text)
    text = re.sub(
        r"(?<![\w.<])(?<!:/)(?!//)(?:/[\w.@+()\[\]{}~%=&$!-]+){2,}/?",
        lambda m: Path(m[0]).name,
        text,
    )
    text = re.sub(r"[A-Za-z]:\\(?:[^\\\s|]+\\)*", "", text)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        return text
    if len(user) < 3 or user == "root":
        return text
    return re.sub(rf"\b{re.escape(user)}\b", "USER", text)


def _spellings(path: Path) -> list[str]:
    """Return the ways in which messages may write `path`, the longest first."""
    paths = [path] if is_on_hub(path) else [path, path.absolute(), path.resolve()]
    words = {str(p) for p in paths}
    return sorted(words | {one_line(word) for word in words}, key=len, reverse=True)


def _folders(path: Path) -> list[str]:
    """Return the folders above `path` and the home, the longest first; the root says nothing."""
    home = Path(os.path.expanduser("~"))
    above = {*path.absolute().parents, *path.resolve().parents, Path.cwd(), home, home.resolve()}
    words = {str(folder) for folder in above if folder != Path(folder.anchor)}
    return sorted(words | {one_line(word) for word in words}, key=len, reverse=True)


def _code(text: str) -> str:
    """Return `text` as a Markdown code span on one line."""
    text = one_line(text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if not text.strip() or text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}" if text else ""

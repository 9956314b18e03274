"""A diagnosis as Markdown for a bug report: nothing in it says who or where the user is."""

from __future__ import annotations

import getpass
import platform
import re
from pathlib import Path

from g4cli.doctor.checks.machine import LIBRARIES, installed_version
from g4cli.doctor.report import Report


def bug_report(report: Report) -> str:
    """Return the report as Markdown; paths are cut to file names, the user's name is taken out."""
    rows = [
        f"| {f.status} | {f.id} | {_cell(f.found)} |"
        for f in report.worst_first
        if f.status != "skipped"
    ]
    detail = [
        f"- {f.id}: {_cell(', '.join(f.detail[:40]))}"
        + (f" ... ({len(f.detail)})" if len(f.detail) > 40 else "")
        for f in report.worst_first
        if f.status == "fail" and f.detail
    ]
    libraries = ", ".join(f"{n} {v}" for n, _ in LIBRARIES if (v := installed_version(n)))
    text = "\n".join(
        [
            f"# g4 doctor: {report.verdict} ({report.confidence})",
            "",
            f"File: `{Path(report.subject).name}`. {report.summary[:1].upper()}{report.summary[1:]}.",
            "",
            "| status | check | found |",
            "|---|---|---|",
            *rows,
            *(["", "Places:", *detail] if detail else []),
            "",
            ", ".join(
                (
                    f"g4 {installed_version('g4cli')}",
                    f"Python {platform.python_version()}",
                    platform.platform(),
                )
            ),
            libraries,
            "",
        ]
    )
    return private(text, report.subject)


def private(text: str, subject: str) -> str:
    """Return `text` without folders of the subject, of the home, or any other absolute path."""
    text = text.replace(subject, Path(subject).name)
    text = re.sub(r"(?<![\w.<])(?:/[\w.@+-]+){2,}/?", lambda m: Path(m[0]).name, text)
    text = re.sub(r"[A-Za-z]:\\(?:[^\\\s|]+\\)*", "", text)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        return text
    return (
        re.sub(rf"\b{re.escape(user)}\b", "USER", text)
        if len(user) > 2 and user != "root"
        else text
    )


def _cell(text: str) -> str:
    visible = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return visible.replace("|", "\\|")

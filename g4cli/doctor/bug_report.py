"""Write a diagnosis as Markdown for a bug report, without the user's name and without folders.

Text from the file is in code spans, in which no renderer sees links, images, mentions, HTML or
references to issues.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from g4cli.core.hub_address import is_on_hub
from g4cli.core.quoting import code_span
from g4cli.core.visible import one_line
from g4cli.doctor.facts.machine import LIBRARIES, installed_version
from g4cli.doctor.report import Report

HEADING: Final = "# g4 doctor: "
_MAX_DETAIL: Final = 40  # names of a finding that are listed: a choice, so that it can be read
# A path of two or more names without quotes, but no URL and no closing tag. Blanks and commas are
# taken for parts of a folder's name, rather too often than too seldom, if no suffix of a file comes
# before them.
_LETTERS: Final = r"\w.@+()\[\]{}~%=&$!-"
_SUFFIX: Final = r"\.(?:bin|c|cpp|cu|dll|dylib|gguf|h|jinja|jsonl?|py|safetensors|so[.\d]*|txt)[ ,]"
_FOLDER: Final = rf"[{_LETTERS}](?:(?!{_SUFFIX})[ ,{_LETTERS}])*(?<! )(?=/)"
_PATH: Final = re.compile(
    rf"(?<![\w.<])(?<!:/)(?!//)(?:~\w*)?(?:/{_FOLDER}|/[{_LETTERS}]+){{2,}}/?"
)
_WINDOWS_FOLDER: Final = r"[^\\/:*?\"<>|\n]+(?<! )\\+"
_WINDOWS_FOLDERS: Final = re.compile(
    rf"(?<!\w)[A-Za-z]:\\+(?:{_WINDOWS_FOLDER})*|(?<![\w\\])\\\\+\w[\w.-]+\\+(?:{_WINDOWS_FOLDER})*"
)
_COMMON_USERS: Final = ("root", "user", "test", "model", "llama", "gemma")  # they tell nothing


def write_bug_report(report: Report) -> str:
    """Return the report as Markdown; paths become file names, and the user's name becomes USER."""

    def quote_text(text: str) -> str:
        return code_span(remove_private_parts(text, report.subject))

    findings = [f for f in report.worst_first if f.status != "skipped"]
    detail = [f for f in findings if f.status == "fail" and f.detail]
    details = [
        f"- {f.id}: {quote_text(', '.join(f.detail[:_MAX_DETAIL]))}"
        + (f" ... ({len(f.detail)})" if len(f.detail) > _MAX_DETAIL else "")
        for f in detail
    ]
    lines = [
        f"{HEADING}{report.verdict} ({report.confidence})",
        "",
        f"{quote_text(Path(report.subject).name)}: {quote_text(report.summary)}.",
        "",
        *(f"- **{f.status}** {f.id}: {quote_text(f.found)}" for f in findings),
        *(["", "Details:", "", *details] if details else []),
        "",
        *list_versions(),
        "",
    ]
    return "\n".join(lines)


def list_versions() -> tuple[str, str]:
    """Return two lines with the versions of g4, Python and the system, and of the libraries."""
    versions = [f"g4 {installed_version('g4cli')}", f"Python {platform.python_version()}"]
    # `platform.platform` would start a process.
    versions.append(f"{platform.system()} {platform.release()} {platform.machine()}")
    libraries = ", ".join(f"{n} {v}" for n in LIBRARIES if (v := installed_version(n)))
    return ", ".join(versions), libraries


def remove_private_parts(text: str, subject: str) -> str:
    """Return `text` without the user's name, and with paths shortened to file names.

    `subject` is the path of the file as the user named it. Its folders may have spaces and
    parentheses in their names, so they are replaced literally; other paths are recognized by their
    form. The repository of a file on the hub is removed as well: it may be private.
    """
    path = Path(subject)
    # Whichever way messages write the path, the longest first.
    for spelling in _spell_out({path} if is_on_hub(path) else _locations(path)):
        text = text.replace(spelling, path.name)
    for folder in _parent_folders(path):
        # A folder alone becomes FOLDER, unless it may be a word; in front of a name it is removed.
        start = rf"(?<![\w.]){re.escape(folder)}"
        text = re.sub(start + re.escape(os.sep), "", text)
        if os.sep in folder:
            text = re.sub(rf"{start}(?![\w.-])", "FOLDER", text)
    # Paths in quotes, which may hold spaces; those without; and those of Windows.
    text = re.sub(r"(?<=['\"])/[^'\"\n]*/([^'\"\n]*)(?=['\"])", r"\1", text)
    text = _PATH.sub(lambda m: Path(m[0]).name, text)
    text = _WINDOWS_FOLDERS.sub("", text)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        return text
    if len(user) < 3 or user in _COMMON_USERS:
        return text  # USER would replace words that mean something else
    return re.sub(rf"\b{re.escape(user)}\b", "USER", text, flags=re.IGNORECASE)


def _parent_folders(path: Path) -> list[str]:
    """Return the folders above `path` and the home folder, longest first, without the root."""
    home = Path(os.path.expanduser("~"))
    above = {folder for p in _locations(path) for folder in p.parents}
    above |= {home, home.resolve(), *_locations(Path())}
    return _spell_out({f for f in above if f != Path(f.anchor) and set(f.parts) != {".."}})


def _locations(path: Path) -> set[Path]:
    """Return `path` as it is and, unless the current folder was deleted, from the root on."""
    with suppress(FileNotFoundError):
        return {path, path.absolute(), path.resolve()}
    return {path}


def _spell_out(paths: set[Path]) -> list[str]:
    """Return the paths as they are and as messages show them, the longest first."""
    words = {str(path) for path in paths}
    return sorted(words | {one_line(word) for word in words}, key=len, reverse=True)

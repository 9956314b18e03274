"""What holds for the files of the tests themselves."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.support.paths import TESTS

# Programs that tests start as processes of their own.
PROGRAMS = {"llama_quantize.py", "llama_types.py"}
FILES = [
    path
    for folder in ("architecture", "e2e", "support", "unit")
    for path in sorted((TESTS / folder).rglob("*.py"))
    if path.name not in PROGRAMS
]


def imported(path: Path) -> set[str]:
    """Return the packages that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_no_test_imports_the_package_llama_cpp() -> None:
    """It prints llama.cpp's log from then on, in every test of the process that follows.

    `g4cli.runtime.llama.library.llama` gives the same functions and keeps the log to itself.
    """
    assert [path for path in FILES if "llama_cpp" in imported(path)] == []

"""Rules for the test files themselves."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.support.paths import TESTS
from tests.support.sources import list_nodes

# Programs that tests run in child processes.
PROGRAMS = {"llama_quantize.py", "llama_types.py"}
FILES = [
    path
    for folder in ("architecture", "e2e", "integration", "support", "unit")
    for path in sorted((TESTS / folder).rglob("*.py"))
    if path.name not in PROGRAMS
]


def read_imports(path: Path) -> set[str]:
    """Return the packages that a file imports anywhere."""
    found = set()
    for node in list_nodes(path):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_no_test_imports_the_package_llama_cpp() -> None:
    """It would print llama.cpp's log from then on, in all later tests of the process.

    `g4cli.runtime.llama.library.load_llama` gives the same functions and captures the log.
    """
    assert [path for path in FILES if "llama_cpp" in read_imports(path)] == []

"""Rules for the test files themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

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

SCRIPTS = [
    path for folder in ("bench", "oracle") for path in sorted((TESTS / folder).rglob("*.py"))
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


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def find_private_reaches(path: Path) -> list[str]:
    """Return where a file imports a private name of g4, or replaces a private attribute."""
    found = []
    for node in list_nodes(path):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("g4cli"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names if alias.name.startswith("g4cli")]
            names = [part for name in dotted for part in name.split(".")]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "setattr":
            texts = [arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant)]
            names = [part for text in texts if isinstance(text, str) for part in text.split(".")]
        line = getattr(node, "lineno", 0)
        found += [f"{path}:{line}: {name}" for name in names if is_private(name)]
    return found


def test_no_test_imports_or_replaces_what_is_private() -> None:
    """Clocks, sizes and hosts are passed as arguments; the rest is tested from outside."""
    found = [reach for path in [*FILES, *SCRIPTS] for reach in find_private_reaches(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "from g4cli.cli.output import _shorten",
        "from g4cli.hub._private import thing",
        "import g4cli._private",
        "monkeypatch.setattr(journal, '_boot_id', None)",
        "monkeypatch.setattr('g4cli.hub.client._MAX_ROWS', 2)",
        "patch.setattr(Partial, '_put', None)",
    ],
)
def test_the_test_sees_a_private_name(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.py"
    path.write_text(line)
    assert len(find_private_reaches(path)) == 1


# How the names of helpers begin that fail a test.
ASSERTING = ("assert", "check", "expect", "raises", "validate", "wait_for", "wait_until")


def has_assertion(test: ast.AST) -> bool:
    """Return whether a test asserts something itself, or calls a helper that does."""
    for node in ast.walk(test):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", "") or getattr(node.func, "id", "")
            if name.startswith(ASSERTING):
                return True
    return False


def test_every_test_has_an_assertion() -> None:
    tests = [
        (path, node)
        for path in FILES
        for node in list_nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    ]
    assert [f"{path}: {test.name}" for path, test in tests if not has_assertion(test)] == []


def test_no_test_imports_the_package_llama_cpp() -> None:
    """It would print llama.cpp's log from then on, in all later tests of the process.

    `g4cli.runtime.llama.library.load_llama` gives the same functions and captures the log.
    """
    assert [path for path in FILES if "llama_cpp" in read_imports(path)] == []

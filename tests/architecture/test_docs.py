"""The README names every command, help texts are complete, and files stay small."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml
from typer.models import CommandInfo

from g4cli.cli.main import COMMANDS, app, register_commands
from tests.support.paths import ROOT
from tests.support.sources import list_nodes, parse_source

README = (ROOT / "README.md").read_text(encoding="utf-8")
SOURCES = sorted(
    p for package in ("g4cli", "converters", "quant") for p in (ROOT / package).rglob("*.py")
)
FILE_LINES, FUNCTION_LINES, COMMAND_LINES = 400, 60, 140
# Tables with one row per line.
TABLES = {"core/registry.py", "core/inventory.py", "doctor/known_faults.py"}


@pytest.fixture(scope="module", autouse=True)
def register_all_commands() -> None:
    register_commands()


def find_command(name: str) -> CommandInfo:
    """Return the command called `name`; with two words it is one of a group."""
    group, _, command = name.rpartition(" ")
    groups = {g.name: g.typer_instance for g in app.registered_groups}
    parent = groups[group] if group else app
    assert parent is not None
    return next(c for c in parent.registered_commands if c.name == command)


@pytest.mark.parametrize("name", [name for name, *_ in COMMANDS])
def test_every_command_has_help_examples_and_json(name: str) -> None:
    info = find_command(name)
    assert info.callback is not None
    doc = info.callback.__doc__ or ""
    assert doc.strip().partition("\n")[0].endswith("."), "the first line is a sentence"
    assert "Examples:" in doc
    assert f"g4 {name}" in doc
    annotations = str(info.callback.__annotations__)
    assert "json" in info.callback.__annotations__, annotations


@pytest.mark.parametrize("name", [name for name, *_ in COMMANDS])
def test_every_command_stands_in_the_readme(name: str) -> None:
    assert f"g4 {name}" in README


def find_what_is_too_long(path: Path) -> list[str]:
    name = str(path.relative_to(ROOT))
    found = []
    lines = path.read_text(encoding="utf-8").count("\n")
    if lines > FILE_LINES and not any(name.endswith(table) for table in TABLES):
        found.append(f"{name}: {lines} lines")
    for node in list_nodes(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            # The signature and the docstring do not count.
            first = node.body[1:] if ast.get_docstring(node) else node.body
            size = (node.end_lineno or 0) - first[0].lineno + 1 if first else 0
            if size > FUNCTION_LINES:
                found.append(f"{name}: {node.name} has {size} lines")
    return found


def test_files_and_functions_stay_readable() -> None:
    found = [fault for path in SOURCES for fault in find_what_is_too_long(path)]
    assert not found, "\n".join(found)


def test_commands_only_parse_call_and_show() -> None:
    for _, _, module, _ in COMMANDS:
        path = ROOT / (module.replace(".", "/") + ".py")
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= COMMAND_LINES, path
        tries = [n.lineno for n in list_nodes(path) if isinstance(n, ast.Try)]
        assert not tries, f"{path}: errors are rendered in main.py, not at lines {tries}"


def test_public_functions_say_what_they_return() -> None:
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for path in SOURCES
        for node in parse_source(path).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and "errors.py" not in path.name  # the tree is drawn at the top of that file
    ]
    assert not silent, "\n".join(silent)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)]
    broken = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not broken


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_workflows_and_templates_are_yaml(path: Path) -> None:
    """A plain scalar with ": " in it is not YAML: GitHub then ignores the whole workflow."""
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 150

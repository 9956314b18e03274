"""The imports between the doctor's rooms: `checks` use `facts` and `probe`, never vice versa."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from g4cli.doctor.checks.machine import CHECKS as MACHINE_CHECKS
from g4cli.doctor.diagnose import CHECKS
from g4cli.doctor.report import Check
from tests.support.paths import ROOT
from tests.support.sources import list_nodes

DOCTOR = ROOT / "g4cli" / "doctor"
# room -> the rooms of the doctor that it may import
MAY_IMPORT = {
    "probe": {"probe"},
    "facts": {"facts", "probe"},
    "checks": {"checks", "facts", "probe"},
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def doctor_imports(path: Path) -> set[str]:
    """Return the doctor's modules that a file imports, also inside functions and for types."""
    found = set()
    for node in list_nodes(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("g4cli.doctor"):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {n for n in names if (ROOT / f"{n.replace('.', '/')}.py").is_file()}
            found |= modules or {node.module or ""}
    return found


FILES = sorted(p for p in DOCTOR.rglob("*.py") if p.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_probe_asks_facts_read_and_checks_judge(path: Path) -> None:
    allowed = MAY_IMPORT.get(path.parent.name)
    if allowed is None:
        return
    rooms = {name.split(".")[2] for name in doctor_imports(path) if name.count(".") == 3}
    assert rooms <= allowed


def test_advice_that_checks_share_is_written_once() -> None:
    """Advice with a command, if more than one check gives it, is in advice.py."""
    files: dict[str, set[str]] = {}
    for path in sorted((DOCTOR / "checks").glob("*.py")):
        for node in list_nodes(path):
            text = node.value if isinstance(node, ast.Constant) else None
            commands = ("g4 pull", "g4 doctor", "pip install")
            if isinstance(text, str) and any(command in text for command in commands):
                files.setdefault(text, set()).add(path.name)
    assert {text: names for text, names in files.items() if len(names) > 1} == {}


def test_the_guide_names_every_family() -> None:
    guide = (ROOT / "docs" / "guide" / "doctor.md").read_text(encoding="utf-8")
    families = {check.family for check in (*CHECKS, *MACHINE_CHECKS)}
    assert {family for family in families if f"| `{family}` |" not in guide} == set()


@pytest.mark.parametrize("check", [*CHECKS, *MACHINE_CHECKS], ids=lambda c: c.id)
def test_a_check_is_in_the_file_of_its_family(check: Check) -> None:
    assert check.run.__module__ == f"g4cli.doctor.checks.{check.family}"

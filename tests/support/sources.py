"""The sources of g4 as syntax trees, each parsed once for all tests that ask about it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def parse_source(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file. Do not change it: other tests read it too."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def list_nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of the syntax tree of a Python file."""
    return tuple(ast.walk(parse_source(path)))

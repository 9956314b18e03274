"""Functions of Python and built-in tools."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from g4cli.core.errors import FileMissing, UsageError
from g4cli.operations.tools import functions
from g4cli.operations.tools.builtin import make_builtin_tools
from g4cli.operations.tools.functions import load_function, load_functions, make_function_tool
from g4cli.operations.tools.tool import ToolFailed


def find(
    name: str, n: int = 3, kind: Literal["a", "b"] = "a", tags: list[str] | None = None
) -> str:
    """Finds things."""
    return f"{name} {n} {kind} {tags}"


def test_type_hints_become_a_schema() -> None:
    tool = make_function_tool(find, "test")
    assert tool.declaration["function"] == {
        "name": "find",
        "description": "Finds things.",
        "parameters": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "n": {"type": "integer"},
                "kind": {"type": "string", "enum": ["a", "b"]},
                "tags": {"type": "array", "items": {"type": "string"}, "nullable": True},
            },
            "required": ["name"],
        },
    }
    assert tool.run({"name": "x", "tags": ["t"]}) == "x 3 a ['t']"
    with pytest.raises(ToolFailed, match="TypeError"):
        tool.run({"other": 1})


def test_a_function_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait() -> None:
        time.sleep(5)

    monkeypatch.setattr(functions, "CALL_S", 0.01)
    with pytest.raises(ToolFailed, match="more than 0 seconds"):
        make_function_tool(wait, "test").run({})


def test_a_file_of_functions(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from math import sqrt\n"
        "def double(x: float) -> float:\n    'Doubles.'\n    return _twice(x)\n"
        "def _twice(x):\n    return 2 * x\n"
    )
    (tool,) = load_functions(path)
    assert (tool.name, tool.source, tool.run({"x": 2.5})) == ("double", "mine.py", 5.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "defines no public function"),
        ("def f(x): pass", "the parameter x has no type"),
        ("def f(x: bytes): pass", "has a type that g4 does not know"),
        ("def f(*x: int): pass", "has no name to call it by"),
        ("1/0", "ZeroDivisionError"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_functions(path)


@pytest.mark.parametrize("reference", ["math", "math:", ":sqrt", "math:no", "g4_no_module:f"])
def test_references_that_lead_nowhere(reference: str) -> None:
    with pytest.raises(UsageError, match="--tool"):
        load_function(reference)


@pytest.mark.parametrize("names", ["", "shell", "files", "time:x", "time,"])
def test_unknown_built_in_tools(names: str) -> None:
    with pytest.raises(UsageError, match="is no tool of g4"):
        make_builtin_tools(names)


def test_files_stay_below_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("hello")
    (folder / "blob").write_bytes(b"\0\1")
    (tmp_path / "secret").write_text("no")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "out").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    time_tool, listing, reading = make_builtin_tools(f"time,files:{folder}")
    assert "T" in time_tool.run({})
    assert listing.run({"path": "."}) == "a.txt\nblob\nlink\nout\npipe\nsub/"
    assert reading.run({"path": "a.txt"}) == "hello"
    outside: Any = ("../secret", str(tmp_path / "secret"), "link", "out/secret", "none", "a\0b")
    for name in outside:
        with pytest.raises(ToolFailed, match="there is no"):
            reading.run({"path": name})
    for name in ("blob", "pipe", "sub"):
        with pytest.raises((ToolFailed, OSError)):
            reading.run({"path": name})
    with pytest.raises(FileMissing):
        make_builtin_tools(f"files:{tmp_path / 'none'}")

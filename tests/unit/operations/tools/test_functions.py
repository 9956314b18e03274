"""Functions of Python and built-in tools."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, Literal

import pytest

from g4cli.core.errors import FileMissing, UsageError
from g4cli.operations.tools import function_child
from g4cli.operations.tools.builtin import make_builtin_tools
from g4cli.operations.tools.function_child import (
    answer_requests,
    describe_function,
    load_functions,
    run_call,
)
from g4cli.operations.tools.tool import RESULT_CHARACTERS, ToolFailed, format_result


def find(
    name: str, n: int = 3, kind: Literal["a", "b"] = "a", tags: list[str] | None = None
) -> str:
    """Finds things."""
    return f"{name} {n} {kind} {tags}"


def test_type_hints_become_a_schema() -> None:
    function = describe_function(find, "test")
    assert function.declaration["function"] == {
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


def test_a_list_may_hold_anything(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from typing import List\ndef f(x: List): pass")
    (function,) = load_functions([], str(path))
    parameters = function.declaration["function"]["parameters"]
    assert parameters["properties"] == {"x": {"type": "array"}}


def test_what_a_call_returns_or_raises_is_its_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(function: Any, **arguments: Any) -> Any:
        return json.loads(run_call(describe_function(function, "test"), arguments))

    def leave() -> None:
        raise SystemExit(3)

    def circle() -> list[Any]:
        found: list[Any] = []
        found.append(found)
        return found

    assert call(find, name="x", tags=["t"]) == {"result": "x 3 a ['t']"}
    assert call(find, other=1)["failed"].startswith("TypeError: ")
    assert call(leave) == {"failed": "SystemExit: 3"}
    assert call(circle)["failed"].startswith("ValueError: ")
    assert call(lambda: {"path": Path("a"), "odd": "\ud800"}) == {
        "result": {"path": "a", "odd": "\ud800"}
    }
    monkeypatch.setattr(function_child, "MAX_RESULT_BYTES", 1 << 20)
    assert call(lambda: "x" * (1 << 20)) == {"failed": "its result has more than 1 MiB"}


def test_a_file_of_functions(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from math import sqrt\n"
        "def double(x: float) -> float:\n    'Doubles.'\n    return _twice(x)\n"
        "def _twice(x):\n    return 2 * x\n"
    )
    start = {"environment": {}, "references": ["platform:node"], "path": str(path)}
    requests = [start, *({"function": f, "arguments": {"x": 2.5}} for f in ("double", "gone"))]
    replies = io.BytesIO()
    answer_requests(iter([json.dumps(request).encode() for request in requests]), replies)
    declared, called, missing = map(json.loads, replies.getvalue().splitlines())
    names = [(item["function"]["name"], source) for item, source in declared["functions"]]
    assert names == [("node", "platform:node"), ("double", "mine.py")]
    assert called == {"result": 5.0}
    assert missing == {"failed": "there is no function gone any more"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "defines no public function"),
        ("def f(x): pass", "the parameter x has no type"),
        ("def f(x: bytes): pass", "has a type that g4 does not know"),
        ("def f(x: '1+'): pass", "cannot be a tool: Forward reference"),
        ("async def f(): pass", "cannot be a tool: it is async"),
        ("def f(*x: int): pass", "has no name to call it by"),
        ("1/0", "ZeroDivisionError"),
        ("raise SystemExit", "SystemExit"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_functions([], str(path))


@pytest.mark.parametrize("reference", ["math", "math:", ":sqrt", "math:no", "g4_no_module:f"])
def test_references_that_lead_nowhere(reference: str) -> None:
    with pytest.raises(UsageError, match="--tool"):
        load_functions([reference], None)


@pytest.mark.parametrize("names", ["", "shell", "files", "time:x", "time,"])
def test_unknown_built_in_tools(names: str) -> None:
    with pytest.raises(UsageError, match="is not a tool of g4"):
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


def test_a_long_file_is_cut_with_its_size(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("a" * 1_000_000)
    reading = make_builtin_tools(f"files:{tmp_path}")[1]
    text = format_result(reading.run({"path": "log.txt"}))
    assert len(text) == RESULT_CHARACTERS
    assert text.endswith("a\n[this is the beginning of a file of 1,000,000 bytes]")

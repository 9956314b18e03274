"""Which room may import which: every import is compared with the architecture's table.

row 0   g4cli.core                                       numpy, platformdirs
row 1   g4cli.{estimate,fit,loops,prompt,chat,doctor,svg} core; numpy; jinja2 in prompt
        g4cli.{converters,quant}                         core and themselves; numpy
row 2   g4cli.{host,hub,remote,store,runtime}            rows 0 and 1; huggingface_hub in hub,
                                                         httpx2 in hub and remote,
                                                         llama_cpp, llguidance in runtime
row 3   g4cli.operations                                 rows 0 to 2; nothing that draws or
                                                         listens; jsonschema
row 4   g4cli.cli                                        everything; typer; rich in views,
                                                         prompt_toolkit in line_editor
        g4cli.server                                     everything but g4cli.cli; fastapi, uvicorn

Of g4cli.cli, only the command `serve` imports g4cli.server.

Modules do not import each other in a circle, neither inside functions nor for type checkers.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

from g4cli.cli.main import COMMANDS
from tests.support.paths import ROOT
from tests.support.sources import list_nodes, parse_source

# The folders `converters` and `quant` are the packages g4cli.converters and g4cli.quant, by links
# in g4cli/, which rglob does not follow.
LINKED = ("converters", "quant")

# Part of the program -> the other parts that it may import, in addition to g4cli.core.
OURS = {
    "g4cli.core": set(),
    "g4cli.estimate": set(),
    "g4cli.fit": {"g4cli.estimate"},
    "g4cli.loops": set(),
    "g4cli.prompt": set(),
    "g4cli.chat": {"g4cli.loops", "g4cli.prompt"},
    "g4cli.doctor": {"g4cli.loops", "g4cli.estimate", "g4cli.prompt"},
    "g4cli.converters": set(),
    "g4cli.quant": set(),
    "g4cli.svg": set(),
}
ROW_1 = {"g4cli.estimate", "g4cli.fit", "g4cli.loops", "g4cli.prompt", "g4cli.chat", "g4cli.doctor",
         "g4cli.converters", "g4cli.quant", "g4cli.svg"}  # fmt: skip
ROW_2 = {"g4cli.host", "g4cli.hub", "g4cli.remote", "g4cli.store", "g4cli.runtime"}
THIRD_PARTY = {
    "numpy": {"g4cli.core"} | ROW_1 | ROW_2,
    "platformdirs": {"g4cli.core"},
    "tomli": {"g4cli.core"},  # tomllib of Python 3.11
    "jinja2": {"g4cli.prompt"},
    "yaml": {"g4cli.converters"},
    "huggingface_hub": {"g4cli.hub"},
    "filelock": {"g4cli.hub"},
    "psutil": {"g4cli.host"},
    # huggingface_hub's own HTTP library
    "httpx2": {"g4cli.hub", "g4cli.remote"},
    "jsonschema": {"g4cli.operations"},
    "referencing": {"g4cli.operations"},  # also jsonschema's
    "llama_cpp": {"g4cli.runtime"},
    "llguidance": {"g4cli.runtime"},
    "mcp": {"g4cli.operations"},
    "resvg_py": {"g4cli.runtime"},  # in the child that renders
    "soundfile": {"g4cli.runtime"},  # in the child that decodes
    "typer": {"g4cli.cli"},
    "fastapi": {"g4cli.server"},
    "starlette": {"g4cli.server"},  # what fastapi is made of
    "pydantic": {"g4cli.server"},
    "uvicorn": {"g4cli.server"},
}
ONE_FILE = {
    "rich": ("g4cli.cli.output", "g4cli.cli.views."),
    "markdown_it": ("g4cli.chat.markdown", "g4cli.cli.views.", "g4cli.server.page_routes."),
    "pygments": ("g4cli.chat.code_lexer", "g4cli.server.page_routes.markdown"),
    "nh3": ("g4cli.server.page_routes.markdown",),
    "prompt_toolkit": ("g4cli.cli.chat.line_editor",),
}
ROW_3 = "g4cli.operations"
ROW_4 = ("g4cli.cli", "g4cli.server")
STARTS_SERVER = "g4cli.cli.commands.serve"
NEVER = {"torch", "transformers", "click", "gguf"}


def iter_modules() -> Iterator[tuple[str, Path]]:
    for folder in ("g4cli", *LINKED):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if folder in LINKED:
                parts = ("g4cli", *parts)
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def find_part(module: str) -> str:
    """Return the part that `module` belongs to, such as g4cli.quant."""
    names = module.split(".")
    if names[0] != "g4cli" or len(names) == 1:
        return names[0]
    stem = names[1].split("_")[0]
    known = {p.split(".")[1] for p in (*OURS, *ROW_2, ROW_3, *ROW_4)}
    return f"g4cli.{names[1] if names[1] in known else stem}"


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def iter_imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every imported module and its line; `from g4cli import host` imports g4cli.host."""
    typing_only: set[ast.AST] = set()
    for node in list_nodes(path):
        if is_for_type_checkers(node):
            typing_only.update(ast.walk(node))
    for node in list_nodes(path):
        if (
            node in typing_only
            and isinstance(node, ast.ImportFrom)
            and not (node.module or "").startswith("g4cli")
        ):
            continue  # imported for type checkers only
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports here are absolute"
            if node.module == "g4cli":
                for alias in node.names:
                    # A capital or an underscore: a value of the package, not one of its modules.
                    is_module = alias.name[0].islower()
                    yield f"g4cli.{alias.name}" if is_module else "g4cli", node.lineno
            else:
                yield node.module or "", node.lineno


def explain_fault(module: str, imported: str) -> str | None:
    """Return why `module` must not import `imported`, or None if it may."""
    top = imported.split(".")[0]
    own = find_part(module)
    if top in NEVER:
        return f"{top} is never imported in the program"
    if top in LINKED:
        return f"{top} is imported as g4cli.{top}"
    if top == "g4cli":
        target = find_part(imported)
        if target in ("g4cli.core", own, "g4cli") or module == STARTS_SERVER:
            return None
        if target in ROW_4:
            return f"{own} may not import {target}"
        if own in ROW_4:
            return None
        if target == ROW_3 and own != ROW_3:
            return f"{own} may not import {target}"
        if own in OURS and target not in OURS[own]:
            return f"{own} may not import {target}"
        if own in ROW_2 and target not in ROW_1 | ROW_2:
            return f"{own} may not import {target}"
        return None
    if top in sys.stdlib_module_names or top in ("__future__", "tomllib"):  # new in Python 3.11
        return None
    if top in ONE_FILE:
        ok = module.startswith(ONE_FILE[top])
        return None if ok else f"{top} belongs in {' or '.join(ONE_FILE[top])}"
    if own in THIRD_PARTY.get(top, set()):
        return None
    return f"{own} may not import {top}"


def test_imports_follow_the_table() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{line}: {why}"
        for module, path in iter_modules()
        for name, line in iter_imports(path)
        if (why := explain_fault(module, name))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("g4cli.core.gguf", "g4cli.store"),
        ("g4cli.core.gguf", "huggingface_hub"),
        ("g4cli.estimate", "g4cli.host"),
        ("g4cli.chat", "g4cli.runtime.engine.llama_engine"),
        ("g4cli.doctor.verdict", "g4cli.runtime"),
        ("g4cli.converters.text", "g4cli.quant"),
        ("g4cli.quant.native", "llama_cpp"),
        ("g4cli.store.make", "quant.file"),
        ("g4cli.cli.commands.convert", "converters"),
        ("g4cli.store", "huggingface_hub"),
        ("g4cli.store", "g4cli.cli.output"),
        ("g4cli.store", "g4cli.operations.pull.plan"),
        ("g4cli.operations.pull.plan", "g4cli.cli.output"),
        ("g4cli.operations.pull.plan", "typer"),
        ("g4cli.operations.fit.answer", "rich.table"),
        ("g4cli.operations.chat.plan", "prompt_toolkit"),
        ("g4cli.runtime.engine.model", "rich.text"),
        ("g4cli.operations.serving.service", "fastapi"),
        ("g4cli.operations.serving.service", "g4cli.server.app"),
        ("g4cli.server.app", "g4cli.cli.output"),
        ("g4cli.server.app", "typer"),
        ("g4cli.cli.commands.chat", "g4cli.server.app"),
        ("g4cli.cli.commands.pull", "rich.progress"),
        ("g4cli.cli.commands.pull", "click"),
        ("g4cli.cli.commands.chat", "torch"),
    ],
)
def test_the_test_sees_a_forbidden_import(module: str, imported: str) -> None:
    assert explain_fault(module, imported)


def imported_modules(module: str, path: Path, known: Collection[str]) -> set[str]:
    """Return the modules of `known` that `module` imports anywhere, without its own packages."""
    names = set()
    for node in list_nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names & set(known) if not f"{module}.".startswith(f"{name}.")}


def find_circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other directly or indirectly, sorted."""

    def find_reachable(start: str) -> set[str]:
        seen: set[str] = set()
        queue = list(graph[start])
        while queue:
            module = queue.pop()
            if module not in seen:
                seen.add(module)
                queue += graph[module]
        return seen

    reached = {module: find_reachable(module) for module in graph}
    groups = {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in graph
        if module in reached[module]
    }
    return sorted(sorted(group) for group in groups)


def test_no_module_imports_itself_by_way_of_others() -> None:
    paths = dict(iter_modules())
    graph = {module: imported_modules(module, path, paths) for module, path in paths.items()}
    circles = ["circle: " + ", ".join(circle) for circle in find_circles(graph)]
    assert not circles, "\n".join(circles)


def test_the_test_sees_a_circle(tmp_path: Path) -> None:
    assert find_circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c"]]
    assert find_circles({"a": ["b", "c"], "b": ["c"], "c": []}) == []
    source = tmp_path / "x.py"
    source.write_text(
        "if TYPE_CHECKING:\n    from p.a import A\n"
        "def f():\n    from p import b, q\n    import p.c\n"
    )
    known = {"p", "p.a", "p.b", "p.c", "p.x"}
    assert imported_modules("p.x", source, known) == {"p.a", "p.b", "p.c"}


def test_commands_import_the_rest_of_g4_inside_their_function() -> None:
    """So that --help and other commands do not wait for modules that only one command needs.

    Views and other modules that are only imported inside a command may import at the top.
    """
    loaded_at_start = {module for _, _, module, _ in COMMANDS}
    loaded_at_start |= {f"g4cli.cli.{name}" for name in ("main", "output", "options")}
    light = {
        "g4cli.core.errors",
        "g4cli.core.progress",
        "g4cli.core.paths",
        "g4cli.core.reporter",
        "g4cli.core.units",
        "g4cli.core.visible",
        "g4cli.core",
    }
    heavy = []
    for module, path in iter_modules():
        if module not in loaded_at_start:
            continue
        for node in parse_source(path).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("g4cli"):
                name = node.module or ""
                if name not in light and not name.startswith("g4cli.cli.") and name != "g4cli":
                    heavy.append(f"{path.name}:{node.lineno}: {name}")
    assert not heavy, "\n".join(heavy)


def test_tests_and_tools_too_import_the_packages_inside_g4cli() -> None:
    paths = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    faults = [
        f"{path.relative_to(ROOT)}:{line}: {name} is imported as g4cli.{name}"
        for path in sorted(paths)
        for name, line in iter_imports(path)
        if name.split(".")[0] in LINKED
    ]
    assert not faults, "\n".join(faults)


# A process that imports this module can run llama.cpp.
LLAMA = "g4cli.runtime.llama.library"


def find_imports_of(roots: list[str]) -> dict[str, str]:
    """Return the modules that `roots` import directly or indirectly, each with its importer."""
    paths = dict(iter_modules())
    found = dict.fromkeys(roots, "")
    queue = list(roots)
    for module in queue:
        nodes = list_nodes(paths[module])
        typing_only = {
            child for node in nodes if is_for_type_checkers(node) for child in ast.walk(node)
        }
        for node in nodes:
            if node in typing_only or not isinstance(node, ast.ImportFrom):
                continue
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name in paths and name not in found:
                    found[name] = module
                    queue.append(name)
    return found


def test_the_process_that_holds_the_conversation_cannot_reach_llama_cpp() -> None:
    """No command imports it, not even inside a function: only child processes do."""
    found = find_imports_of([module for _, _, module, _ in COMMANDS])
    assert LLAMA not in found, f"{found[LLAMA]} imports it"
    assert "g4cli.runtime.engine.client" in found


def test_the_test_sees_a_way_to_llama_cpp() -> None:
    assert find_imports_of(["g4cli.runtime.engine.worker"])[LLAMA]

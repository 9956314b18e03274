"""Write the pages that are generated from the program, or check that they are current.

    python tools/make_reference.py           write them
    python tools/make_reference.py --check   exit with 1 and name the pages that are out of date

The pages are docs/reference/{cli,exit-codes,environment,known-faults}.md,
docs/explanation/file-map.md and docs/man/g4.1. Their sources are Typer's declarations, the error
tree, the table of paths, the table of known faults and the first line of every module.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from g4cli import __version__
from g4cli.cli.help import name_value
from g4cli.cli.main import app, register_commands
from g4cli.core import errors
from g4cli.core.paths import ENVIRONMENT
from g4cli.doctor.known_faults import ENGINE_DATE, KNOWN_FAULTS

ROOT: Final = Path(__file__).resolve().parents[1]
# Options of every command, which have no row in the tables.
_COMMON: Final = ("--help",)


def main(arguments: list[str]) -> int:
    """Return 0, or with --check 1 if a page differs from what would be written."""
    register_commands()
    pages = {
        "docs/reference/cli.md": make_cli_page(),
        "docs/reference/exit-codes.md": make_exit_code_page(),
        "docs/reference/environment.md": make_environment_page(),
        "docs/reference/known-faults.md": make_faults_page(),
        "docs/explanation/file-map.md": make_file_map(),
        "docs/man/g4.1": make_man_page(),
    }
    stale = [name for name, text in pages.items() if _read_page(ROOT / name) != text]
    if "--check" in arguments:
        for name in stale:
            print(f"out of date: {name} (python tools/make_reference.py)", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(pages[name], encoding="utf-8")
        print(f"wrote {name}")
    return 0


def _read_page(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


# --- The commands ---


def iter_commands() -> Iterator[tuple[str, Any]]:
    """Yield every command, also those in groups, as (name with spaces, Typer's command object)."""
    yield from _iter_leaves("", typer.main.get_command(app))


def _iter_leaves(prefix: str, command: Any) -> Iterator[tuple[str, Any]]:
    for name, child in getattr(command, "commands", {}).items():
        if child.hidden:
            continue
        full = f"{prefix} {name}".strip()
        if getattr(child, "commands", None):
            yield from _iter_leaves(full, child)
        else:
            yield full, child


def _iter_parameters(command: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (usage, meaning, default as text) of every argument and option."""
    for parameter in command.params:
        if parameter.hidden or set(parameter.opts) & set(_COMMON):
            continue
        if parameter.param_type_name == "argument":
            typed = parameter.metavar or (parameter.name or "").upper()
        else:
            names = [*parameter.opts, *parameter.secondary_opts]
            typed = f"{', '.join(names)} {name_value(parameter)}".rstrip()
        yield typed, " ".join((parameter.help or "").split()), _show_default(parameter)


def _show_default(parameter: Any) -> str:
    value = parameter.default
    if callable(value) or value in (None, False, (), []) or not parameter.show_default:
        return ""
    if value is True:
        return "on"
    return str(getattr(value, "value", value))


def _split_help(command: Any) -> tuple[str, str]:
    """Return the text of a command's help, and its examples."""
    text = inspect.cleandoc((command.help or "").replace("\b", ""))
    body, _, examples = text.partition("Examples:")
    return body.strip(), inspect.cleandoc(examples.strip("\n"))


def make_cli_page() -> str:
    """Return docs/reference/cli.md."""
    lines = ["# Commands", "", "Generated from `g4 --help`. Every command also takes `--help`.", ""]
    for name, command in iter_commands():
        body, examples = _split_help(command)
        usage = " ".join(_iter_usage(command))
        lines += [f"## g4 {name}", "", "```", f"g4 {name} {usage}".rstrip(), "```", "", body, ""]
        if examples:
            lines += ["```sh", examples, "```", ""]
        rows = list(_iter_parameters(command))
        if rows:
            lines += ["| option | meaning | default |", "|---|---|---|"]
            lines += [
                f"| `{_escape_cell(typed)}` | {_escape_cell(text)} | {_escape_cell(default)} |"
                for typed, text, default in rows
            ]
            lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def _iter_usage(command: Any) -> Iterator[str]:
    if any(p.param_type_name == "option" for p in command.params):
        yield "[OPTIONS]"
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = (parameter.metavar or (parameter.name or "").upper()).strip("[]")
            many = "..." if parameter.nargs != 1 and not name.endswith("...") else ""
            yield f"{name}{many}" if parameter.required else f"[{name}{many}]"


def _escape_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


# --- Exit codes and environment ---

_ERRORS: Final = """An error is one line on standard error, `error: ...`, followed by `hint: ...`
if a command can help. With `--json` or `--stream-json` it is a JSON object with `error`,
`reference`, `hint` and `exit_code`. `reference` is a stable name for scripts:"""


def make_exit_code_page() -> str:
    """Return docs/reference/exit-codes.md, from the error tree."""
    lines = ["# Exit codes", "", "| code | meaning |", "|---:|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in errors.EXIT_CODES]
    lines += ["", _ERRORS, "", "| reference | code |", "|---|---:|"]
    tree = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.G4Error)
    ]
    lines += [f"| `{error.reference}` | {error.exit_code} |" for error in tree[1:]]
    return "\n".join(lines) + "\n"


def make_environment_page() -> str:
    """Return docs/reference/environment.md, from the table of paths."""
    lines = ["# Environment variables", "", "| variable | meaning | default |", "|---|---|---|"]
    for names, meaning, default in ENVIRONMENT:
        shown = ", ".join(f"`{name}`" for name in names.split(", "))
        lines.append(f"| {shown} | {meaning} | {default} |")
    lines += ["", "On macOS folders under `~/Library` are used instead of the XDG folders."]
    return "\n".join(lines) + "\n"


# --- The file map ---


def make_faults_page() -> str:
    """Return docs/reference/known-faults.md."""
    lines = [
        "# Known faults",
        "",
        "Faults of engines, converters and models that make a sound file answer nonsense, as their "
        "reports describe them. `g4 doctor FILE` warns of those that depend on tensor types; "
        "`g4 doctor FILE --loop` compares the conditions that it finds with this table. Generated "
        "from `g4cli/doctor/known_faults.py`.",
        "",
        f"The llama.cpp that g4 requires is of {ENGINE_DATE}. No published report names the cause "
        "of the `---` loop of a 31B file of 2 April 2026.",
        "",
        "| fault | gives | if | in | ended by | instead | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault in KNOWN_FAULTS:
        conditions = " and ".join(fault.conditions).replace("-", " ")
        if fault.backends:
            conditions += f" ({' or '.join(fault.backends)})"
        ended = f"{fault.fixed_in} ({fault.fixed_on})" if fault.fixed_on else fault.fixed_in
        cells = (
            fault.title,
            fault.symptom_text,
            conditions,
            f"{fault.engine}: {fault.builds}",
            ended or "nothing known",
            fault.workaround,
            fault.source,
        )
        lines.append(f"| {' | '.join(map(_escape_cell, cells))} |")
    return "\n".join([*lines, ""])


def make_file_map() -> str:
    """Return docs/explanation/file-map.md: the first line of every module."""
    lines = ["# File map", "", "Generated from the first line of every module."]
    for package in ("g4cli", "converters", "quant", "tools"):
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            files = sorted(folder.glob("*.py"))
            package_line = next((_read_summary(p) for p in files if p.name == "__init__.py"), "")
            lines += ["", f"## {folder.relative_to(ROOT)}/"]
            lines += ["", package_line] if package_line else []
            rows = [
                f"| `{path.name}` | {_escape_cell(_read_summary(path))} |"
                for path in files
                if path.name != "__init__.py"
            ]
            lines += ["", "| file | holds |", "|---|---|", *rows] if rows else []
    return "\n".join(lines).rstrip() + "\n"


def _read_summary(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


# --- The man page ---


def make_man_page() -> str:
    """Return docs/man/g4.1 in the man macros of troff."""
    lines = [
        f'.TH G4 1 "" "g4 {__version__}" "User Commands"', ".SH NAME",
        "g4 \\- run, fit, convert and diagnose Gemma 4 models on this machine",
        ".SH SYNOPSIS", ".B g4", ".I COMMAND", "[options]", ".SH COMMANDS",
    ]  # fmt: skip
    for name, command in iter_commands():
        body, examples = _split_help(command)
        lines += [f".SS {name} " + " ".join(_iter_usage(command)), _escape_troff(body)]
        for typed, text, default in _iter_parameters(command):
            shown = f"{text} (default: {default})" if default else text
            lines += [".TP", f".B {_escape_troff(typed)}", _escape_troff(shown)]
        if examples:
            lines += [".P", "Examples:", ".RS", ".nf", _escape_troff(examples), ".fi", ".RE"]
    lines += [".SH EXIT STATUS"]
    for code, meaning in errors.EXIT_CODES:
        lines += [".TP", f".B {code}", _escape_troff(meaning)]
    lines += [".SH ENVIRONMENT"]
    for names, meaning, default in ENVIRONMENT:
        shown = f"{meaning} Default: {default}" if default else meaning
        lines += [".TP", f".B {_escape_troff(names)}", _escape_troff(shown)]
    return "\n".join(lines) + "\n"


def _escape_troff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"(?m)^(?=[.'])", r"\\&", escaped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Write the reference pages that follow from the program itself, or check that they are current.

    python tools/make_reference.py           write them
    python tools/make_reference.py --check   exit with 1 and name the pages that are out of date

Made are docs/reference/{cli,exit-codes,environment}.md, docs/explanation/file-map.md and
docs/man/g4.1, from Typer's declarations, the error tree, the table of paths and the first line of
every module.
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

ROOT: Final = Path(__file__).resolve().parents[1]
# Shown for every command, so not worth a row in each table.
_EVERYWHERE: Final = ("--help",)


def main(arguments: list[str]) -> int:
    """Return 0, or with --check 1 if a page differs from what would be written."""
    register_commands()
    pages = {
        "docs/reference/cli.md": cli_page(),
        "docs/reference/exit-codes.md": exit_code_page(),
        "docs/reference/environment.md": environment_page(),
        "docs/explanation/file-map.md": file_map(),
        "docs/man/g4.1": man_page(),
    }
    stale = [name for name, text in pages.items() if _text_of(ROOT / name) != text]
    if "--check" in arguments:
        for name in stale:
            print(f"out of date: {name} (python tools/make_reference.py)", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(pages[name], encoding="utf-8")
        print(f"wrote {name}")
    return 0


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


# --- The commands ---


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command as (its name with spaces, Typer's command object), groups opened."""
    yield from _leaves("", typer.main.get_command(app))


def _leaves(prefix: str, command: Any) -> Iterator[tuple[str, Any]]:
    for name, child in getattr(command, "commands", {}).items():
        if child.hidden:
            continue
        full = f"{prefix} {name}".strip()
        if getattr(child, "commands", None):
            yield from _leaves(full, child)
        else:
            yield full, child


def _parameters(command: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (how it is typed, what it means, its default as text) for arguments, then options."""
    for parameter in command.params:
        if parameter.hidden or set(parameter.opts) & set(_EVERYWHERE):
            continue
        if parameter.param_type_name == "argument":
            typed = parameter.metavar or (parameter.name or "").upper()
        else:
            names = [*parameter.opts, *parameter.secondary_opts]
            typed = f"{', '.join(names)} {name_value(parameter)}".rstrip()
        yield typed, " ".join((parameter.help or "").split()), _default(parameter)


def _default(parameter: Any) -> str:
    value = parameter.default
    if callable(value) or value in (None, False, (), []) or not parameter.show_default:
        return ""
    if value is True:
        return "on"
    return str(getattr(value, "value", value))


def _description(command: Any) -> tuple[str, str]:
    """Return the text of a command's help, and its examples."""
    text = inspect.cleandoc((command.help or "").replace("\b", ""))
    body, _, examples = text.partition("Examples:")
    return body.strip(), inspect.cleandoc(examples.strip("\n"))


def cli_page() -> str:
    """Return docs/reference/cli.md."""
    lines = ["# Commands", "", "Made from `g4 --help`. Every command also takes `--help`.", ""]
    for name, command in commands():
        body, examples = _description(command)
        usage = " ".join(_usage(command))
        lines += [f"## g4 {name}", "", "```", f"g4 {name} {usage}".rstrip(), "```", "", body, ""]
        if examples:
            lines += ["```sh", examples, "```", ""]
        rows = list(_parameters(command))
        if rows:
            lines += ["| option | meaning | default |", "|---|---|---|"]
            lines += [f"| `{_cell(typed)}` | {_cell(text)} | {_cell(default)} |"
                      for typed, text, default in rows]  # fmt: skip
            lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def _usage(command: Any) -> Iterator[str]:
    if any(p.param_type_name == "option" for p in command.params):
        yield "[OPTIONS]"
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = (parameter.metavar or (parameter.name or "").upper()).strip("[]")
            many = "..." if parameter.nargs != 1 and not name.endswith("...") else ""
            yield f"{name}{many}" if parameter.required else f"[{name}{many}]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


# --- Exit codes and environment ---


def exit_code_page() -> str:
    """Return docs/reference/exit-codes.md, from the error tree."""
    lines = ["# Exit codes", "", "| code | meaning |", "|---:|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in errors.EXIT_CODES]
    lines += [
        "", "An error is one line on standard error, `error: ...`, with `hint: ...` below it where a",
        "command can help. With `--json` it is a JSON object: `error`, `reference`, `hint`,",
        "`exit_code`.",
        "`reference` is a stable name for scripts:", "", "| reference | code |", "|---|---:|",
    ]  # fmt: skip
    tree = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.G4Error)
    ]
    lines += [f"| `{error.reference}` | {error.exit_code} |" for error in tree[1:]]
    return "\n".join(lines) + "\n"


def environment_page() -> str:
    """Return docs/reference/environment.md, from the table of paths."""
    lines = ["# Environment variables", "", "| variable | meaning | default |", "|---|---|---|"]
    for names, meaning, default in ENVIRONMENT:
        shown = ", ".join(f"`{name}`" for name in names.split(", "))
        lines.append(f"| {shown} | {meaning} | {default} |")
    lines += ["", "macOS uses folders under `~/Library` in place of the XDG ones."]
    return "\n".join(lines) + "\n"


# --- The file map ---


def file_map() -> str:
    """Return docs/explanation/file-map.md: the first line of every module."""
    lines = ["# File map", "", "Made from the first line of every module."]
    for package in ("g4cli", "converters", "quant", "tools"):
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            files = sorted(folder.glob("*.py"))
            face = next((_first_line(path) for path in files if path.name == "__init__.py"), "")
            lines += ["", f"## {folder.relative_to(ROOT)}/", ""] + ([face, ""] if face else [])
            lines += ["| file | holds |", "|---|---|"]
            lines += [f"| `{path.name}` | {_cell(_first_line(path))} |"
                      for path in files if path.name != "__init__.py"]  # fmt: skip
            if lines[-1] == "|---|---|":
                del lines[-2:]
    return "\n".join(lines).rstrip() + "\n"


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


# --- The man page ---


def man_page() -> str:
    """Return docs/man/g4.1 in the man macros of troff."""
    lines = [
        f'.TH G4 1 "" "g4 {__version__}" "User Commands"', ".SH NAME",
        "g4 \\- run, fit, convert and diagnose Gemma 4 models on this machine",
        ".SH SYNOPSIS", ".B g4", ".I COMMAND", "[options]", ".SH COMMANDS",
    ]  # fmt: skip
    for name, command in commands():
        body, examples = _description(command)
        lines += [f".SS {name} " + " ".join(_usage(command)), _troff(body)]
        for typed, text, default in _parameters(command):
            shown = f"{text} (default: {default})" if default else text
            lines += [".TP", f".B {_troff(typed)}", _troff(shown)]
        if examples:
            lines += [".P", "Examples:", ".RS", ".nf", _troff(examples), ".fi", ".RE"]
    lines += [".SH EXIT STATUS"]
    for code, meaning in errors.EXIT_CODES:
        lines += [".TP", f".B {code}", _troff(meaning)]
    lines += [".SH ENVIRONMENT"]
    for names, meaning, default in ENVIRONMENT:
        lines += [
            ".TP",
            f".B {_troff(names)}",
            _troff(meaning + (f" Default: {default}" if default else "")),
        ]
    return "\n".join(lines) + "\n"


def _troff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"(?m)^(?=[.'])", r"\\&", escaped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

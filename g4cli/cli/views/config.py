"""The user's settings with their origins, for `g4 config` and `g4 chat --stats`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from g4cli.cli.settings import Origin, Setting, check_presets, collect_settings
from g4cli.core.config import COMMAND_SECTIONS, Config, read_config

if TYPE_CHECKING:
    from g4cli.cli.output import Output
    from g4cli.operations.chat.session import ChatSession


class SettingRow(NamedTuple):
    """One setting of one command. `origin`: such as "G4_TEMP" or "config.toml [chat]"."""

    command: str
    name: str
    value: Any
    origin: str


def list_settings() -> list[SettingRow]:
    """Return every setting that is not a default, by command.

    Raises BadFile, UsageError or NotFound, as collect_settings does.
    """
    return [
        SettingRow(name, key.replace("_", "-"), setting.value, setting.origin.name)
        for name, command in _iter_commands()
        for key, setting in _collect_settings(name, command).items()
    ]


def check_config() -> Config:
    """Return the config if all of it is valid for every command, also with each preset.

    Raises BadFile or UsageError.
    """
    config = read_config()
    commands = dict(_iter_commands())
    check_presets(config, commands)
    for name, command in commands.items():
        for preset in ("", *config.presets):
            _collect_settings(name, command, preset)
    return config


def draw_config(out: Output, config: Config, rows: Sequence[SettingRow]) -> None:
    """Draw the settings, aliases and presets of `config`."""
    if rows:
        cells = [(row.command, row.name, _format_value(row.value), row.origin) for row in rows]
        out.table(["command", "setting", "value", "from"], cells)
    if config.aliases:
        out.table(["alias", "model"], sorted(config.aliases.items()))
    for name, preset in sorted(config.presets.items()):
        values = ", ".join(
            f"{key.replace('_', '-')} = {_format_value(v)}" for key, v in preset.items()
        )
        out.line((f"@{name}", "bold"), f"  {values}")
    if not rows and not config.aliases and not config.presets:
        out.say("nothing is set; to begin: g4 config edit")
    if config.path.exists():
        out.say(f"config file: {config.path}")


def describe_origins(session: ChatSession, origins: Mapping[str, Origin]) -> str:
    """Return model, context and sampling parameters of a chat, each with its origin, as one line.

    `origins` has, by parameter, what set an option. The rest is recommended by the model file or is
    a default.
    """
    values = {"model": session.request.model, "ctx": f"{session.engine.n_ctx:,}"}
    default_origins = {"model": "the newest", "ctx": "chosen to fit"}
    for name in ("temp", "top_p", "top_k", "min_p", "repeat_penalty"):
        values[name] = f"{getattr(session.sampling, name):g}"
        default_origins[name] = "model file" if name in session.recommended else "default"
    parts = [
        f"{name.replace('_', '-')} {value} ({origins.get(name, default_origins[name])})"
        for name, value in values.items()
    ]
    # These are shown only if they were set.
    parts += [
        f"{name} {getattr(session.request, name)} ({origin})"
        for name, origin in origins.items()
        if name in ("seed", "think", "draft")
    ]
    return " · ".join(parts)


def _collect_settings(name: str, command: Any, preset: str = "") -> dict[str, Setting]:
    parameters = {parameter.name: parameter for parameter in command.params}
    return collect_settings(name, parameters, typer.Context(command), preset)


def _iter_commands() -> Iterator[tuple[str, Any]]:
    """Yield the commands that have a section in the config file: name, and Typer's command."""
    from g4cli.cli.main import app

    group: Any = typer.main.get_command(app)
    for name in COMMAND_SECTIONS:
        yield name, group.commands[name]


def _format_value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

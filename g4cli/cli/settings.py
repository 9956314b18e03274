"""Where the value of an option comes from: option, preset, environment, config file, default.

An option on the command line wins; then the preset that was named (`g4 chat @reviewer`), then the
environment (G4_TEMP), then the section of the command in the config file. What remains is the
recommendation of the model file, or the default.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import typer

from g4cli.core.config import (
    COMMAND_SECTIONS,
    PRESET_MARK,
    Config,
    expand_alias,
    find_preset,
    read_config,
    suggest,
)
from g4cli.core.errors import BadFile, UsageError

_ORIGINS: Final = "g4.origins"  # the key of Typer's context under which origins are kept
# Options without a lasting value: how this one call prints, what it asks, which files it writes.
_NOT_SETTINGS: Final = frozenset(
    ("json", "quiet", "help", "prompt", "prompts", "continue_", "resume", "svg", "output", "verify",
     "matrix", "image", "audio")
)  # fmt: skip
# Parameters that an environment variable sets: G4_TEMP is that of `temp`.
_IN_ENVIRONMENT: Final = (
    "model", "ctx", "system", "temp", "top_p", "top_k", "min_p", "repeat_penalty", "seed", "think",
    "max_tokens", "kv_type", "threads", "gpu_layers", "device", "draft", "mmproj", "host", "port",
    "keep_alive", "parallel",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the value of an option comes from, and its name for the user.

    The name is "--temp", "argument" (a MODEL, for instance), "preset reviewer", "G4_TEMP",
    "config.toml [chat]" or "the conversation".
    """

    source: Literal["option", "argument", "preset", "environment", "config", "conversation"]
    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def is_of_call(self) -> bool:
        """Whether the value itself stands on the command line."""
        return self.source in ("option", "argument")

    @property
    def is_lasting(self) -> bool:
        """Whether it is the environment or the config file, which hold for all calls."""
        return self.source in ("environment", "config")


@dataclass(frozen=True, slots=True)
class Setting:
    """A value for an option and where it comes from."""

    value: Any
    origin: Origin


def apply_settings(command: Any, ctx: Any, args: list[str]) -> None:
    """Let the options of `command` that `args` leave out take the user's settings.

    They become the context's defaults (`default_map`), and the origin of each value is kept for
    read_origins. `command` is Typer's, `ctx` its context. Raises BadFile, UsageError or NotFound.
    """
    # Parsed here once more: the preset that `args` name decides the defaults.
    parser = command.make_parser(ctx)
    try:
        given = parser.parse_args(list(args))[0]
    except typer.TyperException:
        return  # reported when the command itself parses its arguments
    parameters = {parameter.name: parameter for parameter in command.get_params(ctx)}
    word = given.get("model") or given.get("models") or ""
    word = word[0] if isinstance(word, (list, tuple)) else word
    preset = word[1:] if word.startswith(PRESET_MARK) else ""
    settings = collect_settings(command.name, parameters, ctx, preset)
    ctx.default_map = {name: setting.value for name, setting in settings.items()}
    ctx.meta[_ORIGINS] = {name: setting.origin for name, setting in settings.items()} | {
        name: _find_origin(parameters[name], value)
        for name, value in given.items()
        if value is not None
    }


def collect_settings(
    name: str, parameters: Mapping[str, Any], ctx: Any, preset: str = ""
) -> dict[str, Setting]:
    """Return the settings of the command `name`, by parameter.

    `parameters` are Typer's, by name; `preset` is the preset that was named, or "". Each value is
    checked as the option checks it. Raises BadFile, UsageError or NotFound.
    """
    config = read_config()
    section = config.commands.get(name, {})
    for key in section:
        _require_known(config, f"[{name}]", key, _list_settable(parameters))
    origin = Origin("config", f"{config.path.name} [{name}]")
    settings = {key: Setting(value, origin) for key, value in section.items()}
    settings |= {
        key: Setting(os.environ[variable], Origin("environment", variable))
        for key in _IN_ENVIRONMENT
        if os.environ.get(variable := f"G4_{key.upper()}")
    }
    chosen = find_preset(config, preset) if preset else {}
    origin = Origin("preset", f"preset {preset}")
    settings |= {key: Setting(value, origin) for key, value in chosen.items()}
    if "models" in parameters:  # `g4 serve` has several
        settings = {"models" if key == "model" else key: s for key, s in settings.items()}
    return {
        key: Setting(_parse_value(parameters[key], setting, ctx), setting.origin)
        for key, setting in settings.items()
        if key in parameters  # a preset may have settings of other commands
    }


def read_origins(ctx: Any) -> Mapping[str, Origin]:
    """Return where each value of this call comes from, by parameter, without the defaults."""
    origins: Mapping[str, Origin] = ctx.meta.get(_ORIGINS, {})
    return origins


def resolve_model_word(ctx: Any, _parameter: Any, value: Any) -> Any:
    """Return a MODEL argument with aliases replaced, and "@preset" by the model of the preset.

    The value is a word, or all words of `[MODEL]...`; None or "" if none was given.
    """
    if isinstance(value, (list, tuple)):
        for word in value[1:]:
            if word.startswith(PRESET_MARK):
                raise UsageError(f"{word} has to be the first model", hint=f"g4 serve {word}")
        # A preset may have no model.
        return [m for item in value if (m := resolve_model_word(ctx, _parameter, item))] or None
    if not isinstance(value, str) or not value:
        return value
    if value.startswith(PRESET_MARK):
        if ctx.command.name not in COMMAND_SECTIONS:
            return value  # takes no presets, and says that there is no such model
        value = (ctx.default_map or {}).get("model") or (ctx.default_map or {}).get("models") or ""
        value = value[0] if isinstance(value, list) else value
    return expand_alias(value)


def check_presets(config: Config, commands: Mapping[str, Any]) -> None:
    """Raise BadFile for a setting of a preset that no command has."""
    known = {
        name
        for command in commands.values()
        for name in _list_settable(parameter.name for parameter in command.params)
    }
    for preset, section in config.presets.items():
        for key in section:
            _require_known(config, f"[presets.{preset}]", key, known)


def _list_settable(parameters: Iterable[str]) -> list[str]:
    """Return the names that settings may have, of a command with these parameters."""
    settable = [name for name in parameters if name not in _NOT_SETTINGS]
    return ["model" if name == "models" else name for name in settable]


def _require_known(config: Config, section: str, key: str, known: Collection[str]) -> None:
    """Raise BadFile if `key` of that section is none of the `known` names of settings."""
    if key not in known:
        raise BadFile(
            f"{config.path}: {section} has no setting {key!r}{suggest(key, known)}",
            hint="g4 config edit",
        )


def _parse_value(parameter: Any, setting: Setting, ctx: Any) -> Any:
    """Return the value as it would stand on the command line; a flag stays a bool.

    Raises UsageError, which names the origin, for what the option would refuse.
    """
    value = setting.value
    is_flag = getattr(parameter, "is_flag", False)
    if isinstance(value, bool) != bool(is_flag):
        wanted = "takes true or false" if is_flag else "does not take true or false"
        raise UsageError(f"{setting.origin}: {parameter.name} {wanted}", hint="g4 config")
    many = parameter.nargs == -1 or getattr(parameter, "multiple", False)
    if isinstance(value, list) and not many:
        raise UsageError(f"{setting.origin}: {parameter.name} takes one value", hint="g4 config")
    values = [str(item) for item in value] if isinstance(value, list) else [str(value)]
    given = values if many else value if is_flag else values[0]
    try:
        if not is_flag:
            parameter.get_runtime_param().coerce(given, param=parameter, ctx=ctx)
    except typer.TyperException as err:
        message = " ".join(err.format_message().split()).rstrip(".")
        raise UsageError(f"{setting.origin}: {message}", hint="g4 config") from err
    return given


def _find_origin(parameter: Any, value: Any) -> Origin:
    if parameter.param_type_name != "option":
        return Origin("argument", "argument")
    words = parameter.secondary_opts if value is False else parameter.opts  # --no-mmap, --mmap
    return Origin("option", words[0])

"""The user's config file: defaults of commands, other names of models, presets.

[chat]                     defaults of the options of `g4 chat`; also [serve], [bench], [fit]
model = "e2b"
temp = 0.7

[aliases]                  another name for a model
work = "31b:q4_0"

[presets.reviewer]         options that `g4 chat @reviewer` sets
model = "work"
system = "You review code."
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeAlias

from g4cli.core.errors import BadFile, NotFound, UnknownModel
from g4cli.core.files import is_there, open_file
from g4cli.core.paths import config_path
from g4cli.core.registry import find_model

Settings: TypeAlias = Mapping[str, Any]

COMMAND_SECTIONS: Final = ("chat", "serve", "bench", "fit")
PRESET_MARK: Final = "@"
_MAX_BYTES: Final = 1 << 20  # a choice: a config has some kilobytes
_HINT: Final = "g4 config edit"


@dataclass(frozen=True, slots=True)
class Config:
    """What the config file says; the keys of settings have underscores: `top_p` for "top-p"."""

    path: Path
    commands: Mapping[str, Settings] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    presets: Mapping[str, Settings] = field(default_factory=dict)


def read_config() -> Config:
    """Return the user's config, empty if there is no file. Raises BadFile or UsageError."""
    path = config_path()
    if not is_there(path):
        return Config(path)
    data = _parse_toml(path)
    known = (*COMMAND_SECTIONS, "aliases", "presets")
    for name, section in data.items():
        if name not in known:
            raise BadFile(f"{path}: unknown section [{name}]{suggest(name, known)}", hint=_HINT)
        _require_table(path, name, section)
    aliases = data.get("aliases", {})
    for name, target in aliases.items():
        if not isinstance(target, str) or not target:
            raise BadFile(f"{path}: alias {name!r} is not the name of a model", hint=_HINT)
        if name.startswith(PRESET_MARK):
            raise BadFile(f"{path}: alias {name!r} begins as a preset does", hint=_HINT)
        if _is_model(name):
            raise BadFile(f"{path}: alias {name!r} is already the name of a model", hint=_HINT)
    presets = data.get("presets", {})
    for name, section in presets.items():
        _require_table(path, f"presets.{name}", section)
    return Config(
        path,
        {c: _with_underscores(path, c, data[c]) for c in COMMAND_SECTIONS if c in data},
        aliases,
        {n: _with_underscores(path, f"presets.{n}", section) for n, section in presets.items()},
    )


def expand_alias(word: str) -> str:
    """Return the model that `word` is an alias of, or `word`. Raises as read_config.

    In `g4 compare`, options of the model may follow the alias: work@temp=0.
    """
    aliases = read_config().aliases
    name, mark, options = word.partition(PRESET_MARK)
    return aliases.get(word) or f"{aliases.get(name, name)}{mark}{options}"


def find_preset(config: Config, name: str) -> Settings:
    """Return the preset called `name`. Raises NotFound."""
    if name not in config.presets:
        raise NotFound(
            f"no preset is called {PRESET_MARK}{name}{suggest(name, config.presets)}", hint=_HINT
        )
    return config.presets[name]


def suggest(name: str, known: Any) -> str:
    """Return "; did you mean ...?" if one of `known` is similar to `name`, else ""."""
    near = get_close_matches(name, [str(item) for item in known], 1)
    return f"; did you mean {near[0]}?" if near else ""


def _parse_toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    with open_file(path) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise BadFile(f"{path} is too large", hint=_HINT)
    try:
        parsed: dict[str, Any] = tomllib.loads(data.decode("utf-8"))
        return parsed
    except (ValueError, RecursionError) as err:  # not TOML, not UTF-8, a number of 5,000 digits
        raise BadFile(f"{path} is not valid TOML: {err}", hint=_HINT) from err


def _require_table(path: Path, name: str, section: Any) -> None:
    if not isinstance(section, dict):
        raise BadFile(f"{path}: [{name}] is not a section", hint=_HINT)


def _is_model(name: str) -> bool:
    """Return whether `name` is one of g4's own models, with a type or without."""
    try:
        find_model(name.partition(":")[0])
    except UnknownModel:
        return False
    return True


def _with_underscores(path: Path, name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, value in section.items():
        if (plain := key.replace("-", "_")) in settings:
            raise BadFile(f"{path}: [{name}] has {key} twice, with - and with _", hint=_HINT)
        settings[plain] = value
    return settings

"""`g4 config`: show, check and edit the user's settings."""

from __future__ import annotations

from g4cli.cli.options.common import JsonOpt, QuietOpt
from g4cli.cli.output import make_output


def show(json: JsonOpt = False, quiet: QuietOpt = False) -> None:
    """Show every setting and where it comes from. "g4 config" alone does the same.

    An option on the command line wins over a preset, a preset over the environment,
    the environment over the config file, and that over what a model file recommends.

    \b
    Examples:
      g4 config
      g4 config show --json
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.config import draw_config, list_settings
    from g4cli.core.config import read_config

    config, rows = read_config(), list_settings()
    data = {
        "file": str(config.path),
        "settings": [row._asdict() for row in rows],
        "aliases": dict(config.aliases),
        "presets": {name: dict(values) for name, values in config.presets.items()},
    }
    out.result(data, lambda: draw_config(out, config, rows), brief=str(config.path))


def check(json: JsonOpt = False, quiet: QuietOpt = False) -> None:
    """Check the config file: its syntax, the names of settings, and their values.

    \b
    Examples:
      g4 config check
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.config import check_config

    config = check_config()
    data = {"file": str(config.path), "exists": config.path.exists(), "valid": True}
    what = f"{config.path}: no errors" if config.path.exists() else f"there is no {config.path}"
    out.result(data, lambda: out.say(what), brief=str(config.path))


def edit(json: JsonOpt = False, quiet: QuietOpt = False) -> None:
    """Open the config file in the editor of VISUAL or EDITOR, then check it.

    If there is no file, one is made that explains itself.

    \b
    Examples:
      g4 config edit
      EDITOR=nano g4 config edit
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.config import check_config
    from g4cli.operations.edit_config import edit_config

    path = edit_config()
    check_config()
    out.result({"file": str(path), "valid": True}, lambda: out.say(f"{path}: no errors"))

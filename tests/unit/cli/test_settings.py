"""Settings: option, preset, environment, config file, default; mistakes are never ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from g4cli.cli.main import app, register_commands, run
from g4cli.cli.settings import Origin, read_origins
from g4cli.core.config import expand_alias, read_config
from g4cli.core.errors import BadFile, UsageError
from g4cli.core.paths import config_path
from tests.support.locked import lock_folder

CONFIG = """
[chat]
model = "mine"
temp = 1
ctx = 8192
top-k = 10
mmap = false
[serve]
model = "tiny"
port = 9090
api-key = ["a", "b"]
[aliases]
mine = "tiny:q4_0"
[presets.reviewer]
model = "mine"
system = "You review."
temp = 0.2
"""


def write(text: str) -> None:
    config_path().parent.mkdir(parents=True, exist_ok=True)
    config_path().write_text(text)


def parse(command: str, *args: str) -> tuple[Mapping[str, Any], Mapping[str, Origin]]:
    """Return the values of the options of `command`, and their origins."""
    register_commands()
    group: Any = typer.main.get_command(app)
    context = group.commands[command].make_context(command, list(args))
    return context.params, read_origins(context)


@pytest.mark.slow
def test_the_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    write(CONFIG)
    monkeypatch.setenv("G4_TOP_K", "20")
    monkeypatch.setenv("G4_TEMP", "0.9")
    values, origins = parse("chat", "--min-p", "0.5")
    assert (values["model"], str(origins["model"])) == ("tiny:q4_0", "config.toml [chat]")
    assert (values["temp"], str(origins["temp"])) == (0.9, "G4_TEMP")
    assert (values["top_k"], str(origins["top_k"])) == (20, "G4_TOP_K")
    assert (values["ctx"], values["mmap"]) == ("8192", False)
    assert (values["min_p"], str(origins["min_p"])) == (0.5, "--min-p")
    assert (values["top_p"], "top_p" in origins) == (None, False)
    values, origins = parse("chat", "@reviewer", "--top-k", "30")
    assert (values["model"], values["system"]) == ("tiny:q4_0", "You review.")
    assert (values["temp"], str(origins["temp"])) == (0.2, "preset reviewer")
    assert (values["top_k"], str(origins["top_k"])) == (30, "--top-k")
    assert parse("chat", "other")[0]["model"] == "other"


@pytest.mark.slow
def test_other_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    write(CONFIG)
    values, _ = parse("serve")
    assert (values["models"], values["port"], values["api_key"]) == (["tiny"], 9090, ["a", "b"])
    assert parse("serve", "@reviewer")[0]["models"] == ["tiny:q4_0"]
    assert parse("serve", "mine", "e2b")[0]["models"] == ["tiny:q4_0", "e2b"]
    assert parse("bench", "@reviewer")[0]["model"] == "tiny:q4_0"
    write(CONFIG.replace('model = "mine"\nsystem', "system"))
    assert parse("serve", "@reviewer", "e2b")[0]["models"] == ["tiny", "e2b"]
    with pytest.raises(UsageError, match="@reviewer has to be the first"):
        parse("serve", "e2b", "@reviewer")
    monkeypatch.setenv("G4_MODEL", "mine")
    assert parse("fit")[0]["model"] == "tiny:q4_0"
    assert parse("show", "mine", "mine")[0]["other"] == "tiny:q4_0"
    assert parse("show", "mine")[0]["model"] == "tiny:q4_0"


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (("doctor", "mine"), "file"),
        (("quantize", "mine"), "source"),
        (("eval", "tiny", "--text", "a.txt", "--against", "mine"), "against"),
        (("transcribe", "a.wav", "--model", "mine"), "model"),
        (("compare", "Hi", "--judge", "mine"), "judge"),
    ],
)
def test_every_command_takes_an_alias(args: tuple[str, ...], name: str) -> None:
    write(CONFIG)
    assert parse(*args)[0][name] == "tiny:q4_0"


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (("chat", "--output=~/a.txt"), "output"),
        (("convert", "a", "--out=~/a.txt"), "target"),
        (("doctor", "a", "--report=~/a.txt"), "report"),
        (("serve", "--api-key-file=~/a.txt"), "api_key_file"),
    ],
)
def test_a_path_may_begin_with_the_home_folder(args: tuple[str, ...], name: str) -> None:
    assert parse(*args)[0][name] == Path.home() / "a.txt"
    assert parse("imatrix", "--in-file=~/a")[0]["in_file"] == [Path.home() / "a"]


def test_models_of_a_comparison_may_be_aliases_with_options() -> None:
    write(CONFIG)
    models = parse("compare", "Hi", "-m", "mine@temp=0", "-m", "mine", "-m", "e2b@seed=1")[0]
    assert models["model"] == ["tiny:q4_0@temp=0", "tiny:q4_0", "e2b@seed=1"]
    assert parse("compare", "Hi")[0]["model"] == []


def test_a_prompt_that_begins_with_the_mark_is_no_preset() -> None:
    write(CONFIG)
    values, _ = parse("chat", "-p", "@reviewer")
    assert (values["prompt"], values["system"]) == ("@reviewer", "")


def test_without_a_file_nothing_changes() -> None:
    values, origins = parse("chat")
    assert (values["model"], values["temp"], origins) == ("", None, {})
    assert expand_alias("mine") == "mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message", "code"),
    [
        ("[chat", "is not valid TOML", 5),
        ("\xff".encode("latin-1"), "is not valid TOML", 5),
        ("[chat]\nctx = 1" + "0" * 5000, "is not valid TOML", 5),
        ("[chta]", "unknown section [chta]; did you mean chat?", 5),
        ("chat = 1", "[chat] is not a section", 5),
        ("[chat]\ntmep = 1", "[chat] has no setting 'tmep'; did you mean temp?", 5),
        ("[chat]\njson = true", "[chat] has no setting 'json'", 5),
        ("[chat]\ntemp = 'hot'", "config.toml [chat]: ", 2),
        ("[chat]\ntemp = -1", "config.toml [chat]: ", 2),
        ("[chat]\ntemp = true", "temp does not take true or false", 2),
        ("[chat]\ntemp = []", "temp takes one value", 2),
        ("[chat]\ntemp = [0.1, 0.2]", "temp takes one value", 2),
        ("[chat]\nmmap = 'no'", "mmap takes true or false", 2),
        ("[chat]\nthink = 'hard'", "config.toml [chat]: ", 2),
        ("[aliases]\nx = 1", "alias 'x' is not the name of a model", 5),
        ("[aliases]\ne2b = 'tiny'", "alias 'e2b' is already the name of a model", 5),
        ("[aliases]\ngemma4 = '31b'", "alias 'gemma4' is already the name of a model", 5),
        ("[aliases]\n'E2B-it:q4_0' = '31b'", "alias 'E2B-it:q4_0' is already the name", 5),
        ("[aliases]\n'@r' = 'tiny'", "alias '@r' begins as a preset does", 5),
        ("[chat]\ntop-p = 0.9\ntop_p = 0.5", "[chat] has top_p twice, with - and with _", 5),
        ("[presets.x]\ntmep = 1", "[presets.x] has no setting 'tmep'; did you mean temp?", 5),
        ("[presets.x]\ntemp = 'hot'", "preset x: ", 2),
        ("[presets]\nx = 1", "[presets.x] is not a section", 5),
    ],
)
def test_mistakes_are_named(
    text: str | bytes, message: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write("")
    config_path().write_bytes(text if isinstance(text, bytes) else text.encode())
    assert run(["config", "check"]) == code
    assert message in capsys.readouterr().err


def test_a_mistake_is_an_error_in_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    write("[chat]\ntmep = 1")
    assert run(["chat", "tiny", "-p", "x"]) == 5
    assert "hint: g4 config edit" in capsys.readouterr().err
    write("[presets.x]\ntemp = 1")
    assert run(["chat", "@xx", "-p", "x"]) == 3
    assert "no preset is called @xx; did you mean x?" in capsys.readouterr().err


@pytest.mark.slow
def test_g4_config(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["config"]) == 0
    assert "nothing is set" in capsys.readouterr().err
    write(CONFIG)
    monkeypatch.setenv("G4_TEMP", "0.5")
    assert run(["config"]) == 0
    page = capsys.readouterr().out
    for words in ("chat temp 0.5 G4_TEMP", "serve port 9090 config.toml [serve]", "mine tiny:q4_0"):
        assert words in " ".join(page.split())
    assert "@reviewer" in page
    assert run(["config", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["file"] == str(config_path())
    row = {"command": "chat", "name": "temp", "value": "0.5", "origin": "G4_TEMP"}
    assert row in data["settings"]
    assert run(["config", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["valid"] is True


@pytest.mark.slow
@pytest.mark.parametrize("found", [None, "[chat]\ntemp = 0\n"])
def test_edit_makes_a_file_and_checks_it(
    monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    if found is not None:
        write(found)
    commands: list[list[str]] = []

    class Done:
        returncode = 0

    def start(command: list[str], **_: object) -> Done:
        commands.append(command)
        return Done()

    monkeypatch.setattr("subprocess.run", start)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "my editor --wait")
    assert run(["config", "edit"]) == 0
    assert commands == [["my", "editor", "--wait", str(config_path())]]
    assert config_path().read_text().startswith(found or "# Settings of g4")
    if found is None:  # what the template shows is valid as it stands
        lines = config_path().read_text().splitlines()
        shown = [line.removeprefix("# ") for line in lines if " = " in line or "# [" in line]
        write("\n".join(shown))
        assert run(["config", "check"]) == 0
        assert read_config().presets["reviewer"]["temp"] == 0.2
    write("[chta]")
    assert run(["config", "edit"]) == 5


def test_a_config_that_may_not_be_read_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    lock_folder(monkeypatch, config_path().parent)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        read_config()


def test_a_config_that_is_too_large_is_refused() -> None:
    write("#" * (1 << 20) + "\n")
    with pytest.raises(BadFile, match="too large"):
        read_config()


@pytest.mark.parametrize("name", ["reviewer", "a]"])
def test_a_preset_is_named_for_one_call(name: str) -> None:
    write(f'[presets."{name}"]\nsystem = "Be brief."\n')
    _, origins = parse("chat", f"@{name}")
    assert str(origins["system"]) == f"preset {name}"
    assert not origins["system"].is_lasting


def test_a_preset_without_a_model_is_none_for_all_models(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("[presets.small]\nctx = 4096\n")
    assert run(["fit", "@small", "--memory", "16GB", "--json"]) == 0
    assert '"n_ctx": 4096' in capsys.readouterr().out

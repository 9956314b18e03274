"""g4 with standard streams that are closed, narrow, full or gone: never a traceback, never exit
code 1.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from g4cli.cli.main import run
from g4cli.cli.streams import as_output_error, repair_std_streams
from g4cli.core.errors import UsageError
from tests.support.builders.weights import write_network
from tests.support.paths import ROOT

FIT = "fit e2b --memory 64GB"
NARROW = {"PYTHONIOENCODING": "ascii"}


def shell(command: str, **environment: str) -> tuple[int, str, str]:
    """Run `command` in bash; `g4` in it is this g4."""
    program = "from g4cli.cli.main import main; main()"
    start = f"g4() {{ {sys.executable} -c '{program}' \"$@\"; }}; {command}"
    done = subprocess.run(
        ["bash", "-c", start],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        cwd=ROOT,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow_except("list >&--0")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("list >&-", 0),
        (f"{FIT} >&-", 0),
        ("list 2>&-", 0),
        ("nosuch 2>&-", 2),
        ("chat tiny <&-", 3),
    ],
)
def test_closed(command: str, code: int) -> None:
    found, _, err = shell(f"g4 {command}")
    assert found == code
    assert "Traceback" not in err


def test_a_closed_stream_takes_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    repair_std_streams()
    with sys.stdout as stream:
        assert stream.write("\udc80") == 1


@pytest.mark.slow
def test_a_narrow_encoding_shows_a_bar_of_ascii() -> None:
    code, out, err = shell(f"g4 {FIT}", **NARROW)
    assert code == 0
    assert "Traceback" not in err
    assert "512 tokens at once" in out
    assert "?" not in out
    bar = next(line for line in out.splitlines() if line.startswith("host "))
    # H are the repacked weights, I the per-layer embeddings; the others are too small for a cell.
    assert {"H", "I", "=", "."} <= set(bar) <= set("host #HIL=~%/:|;.-!")


@pytest.mark.slow
def test_json_in_a_narrow_encoding_is_whole() -> None:
    code, out, _ = shell("g4 fit 31b --json --memory 64GB", **NARROW)
    assert code == 0
    assert json.loads(out)["model"] == "31b:q4_0"


@pytest.mark.slow
@pytest.mark.parametrize("command", [FIT, "--help"])
def test_a_reader_that_leaves_is_no_failure(command: str) -> None:
    assert shell(f"g4 {command} | true; exit ${{PIPESTATUS[0]}}")[0] == 0


@pytest.mark.slow
@pytest.mark.requires_linux
@pytest.mark.parametrize("command", [FIT, f"{FIT} --json"])
def test_a_full_disk_behind_the_output(command: str) -> None:
    code, _, err = shell(f"g4 {command} > /dev/full")
    assert code == 4
    assert f"the output cannot be written: {os.strerror(errno.ENOSPC)}" in err
    assert "Traceback" not in err


def test_other_failures_keep_their_traceback() -> None:
    assert as_output_error(OSError(errno.EIO, "broken")) is None
    assert as_output_error(OSError(errno.ENOSPC, "full", "model.gguf")) is None


@pytest.mark.parametrize(
    "command", ["pull {}", "quantize tiny.gguf {}", "svg fix d.svg {}", "convert . -o {}"]
)
def test_a_path_that_the_system_refuses_is_a_usage_error(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_network(tmp_path / "tiny.gguf", n_layer=1)
    Path("d.svg").write_text("<svg/>")
    assert run(command.format("./" + "n" * 300).split()) == UsageError.exit_code
    assert os.strerror(errno.ENAMETOOLONG) in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.requires_linux
def test_a_home_that_cannot_be_made() -> None:
    code, _, err = shell("g4 pull tiny", G4_HOME="/proc/nowhere")
    assert code == 2
    assert "cannot be written" in err
    assert "Traceback" not in err

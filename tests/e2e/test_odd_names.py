"""Files whose names hold bytes that are no UTF-8: every command takes them as they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from g4cli.core.gguf import read_header
from tests.support.builders.tiny_file import build_tiny
from tests.support.run.command import g4

pytestmark = pytest.mark.requires_byte_names


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / os.fsdecode(b"caf\xe9 \xf0\x9f.gguf")
    path.write_bytes(build_tiny())
    return path


@pytest.mark.slow
def test_it_loads_and_answers(capsys: pytest.CaptureFixture[str], odd: Path) -> None:
    code, out, err = g4(capsys, "chat", odd, "-p", "What is GGUF?", "--temp", "0", "-n", "3")
    assert (code, out) == (0, "GGUF is\n"), err


def test_it_is_quantised_and_named_as_its_source(
    capsys: pytest.CaptureFixture[str], odd: Path
) -> None:
    small = odd.with_name("small.gguf")
    code, _, err = g4(capsys, "quantize", odd, small, "--type", "q8_0")
    assert code == 0, err
    assert read_header(small).keys["g4.source.file"].data == "caf? ??.gguf"


def test_its_header_is_sound(capsys: pytest.CaptureFixture[str], odd: Path) -> None:
    code, out, err = g4(capsys, "doctor", odd, "--quick", "--report", odd.with_name("report.md"))
    assert (code, out[:11]) == (0, "NOT CHECKED"), err
    assert r"caf\xe9 \xf0\x9f.gguf" in out
    assert odd.with_name("report.md").read_text("utf-8")

"""Every operation of /openapi.json, asked valid and invalid things that schemathesis makes up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builders.tiny_file import build_tiny
from tests.support.run.server import RunningServer, run_server, tiny_options

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    (tmp_path / "tiny.gguf").write_bytes(build_tiny())
    with run_server(tiny_options(tmp_path / "tiny.gguf", max_tokens=4, ctx="256")) as running:
        yield running


def test_no_request_finds_a_bug(server: RunningServer, tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}/openapi.json"]
    checks = "not_a_server_error,status_code_conformance,content_type_conformance"
    options = [f"--checks={checks}", "--phases=fuzzing", "--max-examples=8"]
    options += ["--request-timeout=60", "--seed=1", "--generation-database=none"]
    done = subprocess.run(
        [*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]

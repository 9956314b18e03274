"""The published JSON Schemas describe what the commands really print."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tests.support.run.command import run
from tests.support.schemas import SCHEMAS, validate_output

ERROR = "error"

# Schema, the arguments that produce a document, and whether it is the error that is looked at.
CASES = [
    ("chat", ["chat", "tiny", "-p", "What is GGUF?", "--temp", "0", "--json"]),
    ("fit", ["fit", "tiny", "--json"]),
    ("fit", ["fit", "e2b", "--memory", "2GB", "--json"]),
    ("fit", ["fit", "31b:q8_0", "--memory", "16GB", "--worker-memory", "16GB,16GB", "--json"]),
    ("models", ["fit", "--memory", "16GB", "--json"]),
    ("list", ["list", "--available", "--json"]),
    ("doctor", ["doctor", "tiny", "--quick", "--json"]),
    ("doctor-loop", ["doctor", "tiny", "--loop", "--budget", "1s", "--json"]),
    ("file", ["pull", "tiny", "--json"]),
    ("file", ["quantize", "tiny", "OUT", "--type", "q8_0", "--json"]),
    ("show", ["show", "tiny", "--json"]),
    ("list", ["list", "--json"]),
    ("bench", ["bench", "tiny", "-p", "8", "-n", "2", "-r", "2", "--json"]),
    (ERROR, ["chat", "no-such-model", "-p", "x", "--json"]),
    (ERROR, ["quantize", "tiny", "--no-such-option", "--json"]),
]


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_a_schema_is_a_schema_and_is_listed(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))
    assert f"schemas/{path.name}" in (SCHEMAS.parent / "json.md").read_text()


@pytest.mark.slow_except("fit-0", "fit-1", "list-1", "doctor-", "show-", "error-0", "error-1")
@pytest.mark.parametrize(
    ("name", "arguments"), CASES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_output_is_what_the_schema_says(
    name: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["pull", "tiny", "--quiet"])
    capsys.readouterr()
    run([str(tmp_path / "out.gguf") if argument == "OUT" else argument for argument in arguments])
    seen = capsys.readouterr()
    text = seen.err if name == ERROR else seen.out
    validate_output(json.loads(text), name)


@pytest.mark.slow
def test_what_serve_prints_once_it_listens_is_what_the_schema_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("g4cli.server.logs.start_log", lambda *_: None)
    monkeypatch.setattr("g4cli.server.run.serve_until_stopped", lambda *_, **__: None)
    run(["pull", "tiny", "--quiet"])
    capsys.readouterr()
    run(["serve", "tiny", "--port", "0", "--json"])
    document = json.loads(capsys.readouterr().out)
    validate_output(document, "serve")
    assert document["models"] == ["tiny:bf16"]
    assert document["api_key_needed"] is False

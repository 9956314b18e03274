"""`g4 fit` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from g4cli.cli.main import run
from g4cli.core.units import GIB
from g4cli.host import HostFacts

PROMISED = [
    "model",
    "n_ctx",
    "kv_type",
    "weights_bytes",
    "kv_bytes",
    "compute_bytes",
    "total_bytes",
    "fits",
    "reason",
]


def test_json_holds_the_promised_keys_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "tiny", "--ctx", "1024", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data)[: len(PROMISED)] == PROMISED
    assert data["model"] == "tiny:bf16"
    assert (data["n_ctx"], data["kv_type"], data["fits"]) == (1024, "f16", True)
    # Owned caches: 4 sliding layers of 64 and 1 full of 128 wide; 768 and 1024 cells; K and V; 2 bytes.
    assert data["kv_bytes"] == (4 * 768 * 64 + 1 * 1024 * 128) * 2 * 2
    assert data["total_bytes"] == sum(t["nbytes"] for t in data["terms"] if t["group"] != "disk")


def test_the_human_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "e2b", "--ctx", "4k"]) in (0, 4)
    text = capsys.readouterr().out
    for word in ("e2b:q4_0", "context 4096: as asked for", "KV sliding", "12.0 MiB", "131,072", "free"):
        assert word in text


def test_what_cannot_fit_leaves_with_4_and_still_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = HostFacts(4 * GIB, 3 * GIB, "memory", 2, GIB, frozenset(), None)
    monkeypatch.setattr("g4cli.host.probe", lambda: small)
    assert run(["fit", "31b", "--ctx", "4k", "--json"]) == 4
    data = json.loads(capsys.readouterr().out)
    assert data["fits"] is False
    assert data["reason"].endswith("4.00 GiB in all")
    assert run(["fit", "31b", "--ctx", "4k"]) == 4
    assert "Does not fit: " in capsys.readouterr().out


def test_quiet_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "tiny", "-q"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("fits: ")
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["e2b", "--ctx", "131073"], 2, "131,072 at most"),
        (["e2b", "--ctx", "many"], 2, "not a number of tokens"),
        (["e2b", "--kv-type", "q3_k"], 2, "unknown KV cache type"),
        (["e2b", "--kv-type", "q8_0", "--no-flash-attn"], 2, "needs flash attention"),
        (["e2b:q99"], 2, "q99"),
        (["e9b"], 3, "no model is called"),
        (["missing.gguf"], 3, "no such file"),
        (["e2b", "--ctx", "0"], 2, "context of 0"),
        (["e2b", "--ubatch", "-1"], 2, "count from 1"),
        (["e2b", "--sequences", "257"], 2, "256 at most"),
    ],
)
def test_bad_requests(args: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", *args]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert "hint:" in captured.err


def test_a_file_that_is_no_gguf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"not a model at all")
    assert run(["fit", str(path)]) == 5
    assert "not a GGUF" in capsys.readouterr().err


def test_a_vocabulary_has_nothing_to_estimate(vocab_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", str(vocab_file)]) == 5
    assert "hint:" in capsys.readouterr().err


def test_the_registry_alone_loads_nothing_heavy() -> None:
    code = (
        "import sys; from g4cli.cli.main import run; run(['fit', 'e2b', '--json']);"
        "print([m for m in ('numpy', 'llama_cpp', 'huggingface_hub', 'torch', 'rich') if m in sys.modules],"
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"

"""`g4 quantize` as a user runs it: result, plan, errors, exit codes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from g4cli.cli.main import run
from g4cli.core.gguf import read_header
from tests.support.builders.gguf import BF16, gemma4_keys, write_gguf
from tests.support.builders.small_llama import llama_keys, llama_tensors
from tests.support.builders.weights import KINDS, write_network


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_network(tmp_path / "net-bf16.gguf", n_layer=2, n_embd=64, n_ff=64, ple=0)


def answer(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert run(["quantize", *args, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_json_names_what_scripts_rely_on(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = answer(capsys, str(source), "--type", "q4_0")
    target = source.with_name("net-q4_0.gguf")
    assert data["path"] == str(target)
    assert (data["type"], data["bytes"]) == ("q4_0", target.stat().st_size)
    assert data["seconds"] > 0
    assert data["tensors_by_type"] == {"F32": 5, "Q4_0": 14, "Q8_0": 1}


def test_another_model_is_quantized_with_a_warning(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llama = write_gguf(source.with_name("llama.gguf"), llama_keys(), llama_tensors())
    assert run(["quantize", str(llama), "--type", "q8_0", "--dry-run"]) == 0
    message = capsys.readouterr().err
    assert "warning: " in message
    assert "not Gemma 4" in message
    assert run(["quantize", str(source), "--type", "q8_0", "--dry-run"]) == 0
    assert "warning: " not in capsys.readouterr().err


@pytest.mark.slow
def test_result_in_words(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quantize", str(source), str(source.with_name("out.gguf")), "--type", "q8_0"]) == 0
    assert "out.gguf  q8_0  " in capsys.readouterr().out
    assert (
        run(["quantize", str(source), str(source.with_name("out.gguf")), "-t", "q8_0", "-f", "-q"])
        == 0
    )
    assert capsys.readouterr().out == f"{source.with_name('out.gguf')}\n"


@pytest.mark.slow
def test_dry_run_writes_nothing(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(source.parent.iterdir())
    data = answer(capsys, str(source), "--type", "q4_0", "--dry-run")
    assert run(["quantize", str(source), "--type", "q4_0", "--dry-run"]) == 0
    table = capsys.readouterr().out
    assert sorted(source.parent.iterdir()) == before
    assert "ffn_down" in table
    assert "nothing was written" in table
    done = answer(capsys, str(source), "--type", "q4_0")
    tensors = read_header(Path(done["path"])).tensors.values()
    assert data["bytes"] == sum(t.nbytes for t in tensors)
    assert {t["name"]: (t["to"], t["bytes"]) for t in data["tensors"]} == {
        t.name: (t.type.name, t.nbytes) for t in tensors
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["missing.gguf"], 3, "no such file"),
        (["."], 2, "is a directory"),
        (["text.gguf"], 5, "not a GGUF"),
        (["net-bf16.gguf", "--type", "q9"], 2, "unknown type 'q9'"),
        (["net-bf16.gguf", "net-bf16.gguf"], 2, "is the source itself"),
        (["net-bf16.gguf", "text.gguf"], 2, "exists"),
        (["net-bf16.gguf", "."], 2, "is a directory"),
        (["net-bf16.gguf", "--tensor-type", "zzz=q8_0"], 2, "no tensor has such a name"),
        (
            ["net-bf16.gguf", "--container", "bf16"],
            2,
            "--container can only be used with --type sfp8",
        ),
        (["cut.gguf"], 5, "truncated"),
        (["nan.gguf"], 5, "blk.0.ffn_up.weight is NaN at row 0, column 0"),
    ],
)
def test_errors(
    source: Path,
    args: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(source.parent)
    Path("text.gguf").write_text("just some words, long enough")
    Path("cut.gguf").write_bytes(source.read_bytes()[:-1000])
    nan = b"\xc0\x7f" + bytes(64 * 4 * 2 - 2)
    write_gguf(Path("nan.gguf"), gemma4_keys(1, 64), [("blk.0.ffn_up.weight", BF16, (64, 4), nan)])
    before = {p.name: p.read_bytes() for p in source.parent.iterdir() if p.is_file()}
    assert run(["quantize", *args]) == code
    told = capsys.readouterr()
    assert message in told.err.replace("\n", " ")
    assert ("hint: g4 doctor nan.gguf" in told.err) is ("nan.gguf" in args)
    assert told.out == ""
    assert {p.name: p.read_bytes() for p in source.parent.iterdir() if p.is_file()} == before


@pytest.mark.slow
def test_dry_run_is_quick_to_start(source: Path) -> None:
    """A plan needs no numpy and no library: neither may be loaded."""
    code = (
        "import sys; from g4cli.cli.main import run; "
        f"code = run(['quantize', {str(source)!r}, '--dry-run', '--json']); "
        "sys.exit(code or ('numpy' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.slow
def test_report_and_show_diff_measure_the_same(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = answer(capsys, str(source), "--type", "q8_0", "--report")
    loss = data["loss"]["total"]
    assert 40 < loss["snr_db"] < 50
    assert run(["show", "--diff", str(source), data["path"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == loss
    assert run(["show", "--diff", str(source), data["path"]]) == 0
    assert "dB, cosine 0.9999" in capsys.readouterr().out
    assert run(["show", "--diff", str(source)]) == 2
    assert run(["show", str(source), data["path"]]) == 2
    assert "g4 show --diff BEFORE AFTER" in capsys.readouterr().err
    assert run(["show", "--diff", str(source), str(source)]) == 0
    assert "have the same values" in capsys.readouterr().out


@pytest.mark.slow
def test_tables_fit_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names stay whole: only the reasons may be folded."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    network = write_network(tmp_path / "e-bf16.gguf", **KINDS["e"])
    target = str(tmp_path / "out.gguf")
    for args in (
        [str(network), "--type", "q4_k_m", "--dry-run"],
        [str(network), target, "-t", "q4_0", "--report"],
    ):
        assert run(["quantize", *args]) == 0
        shown = capsys.readouterr().out
        lines = [line for line in shown.splitlines() if target not in line]
        assert max(map(len, lines)) <= 80, shown
        for name in ("per_layer_token_embd", "attn_output", "ffn_down"):
            assert name in shown, shown


@pytest.mark.slow
def test_importance_matrix_and_exceptions(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    from tests.integration.quant.test_imatrix import dat

    widths = {"attn_q": 64, "ffn_down": 64}
    sums = {f"blk.0.{name}.weight": np.ones(n, np.float32) for name, n in widths.items()}
    matrix = source.with_name("i.dat")
    matrix.write_bytes(dat(sums))
    args = [str(source), "--type", "q4_0", "--imatrix", str(matrix), "--tensor-type", "attn_v=q8_0"]
    data = answer(capsys, *args)
    keys = read_header(Path(data["path"])).keys
    assert keys["quantize.imatrix.entries_count"].data == 2
    assert keys["g4.recipe"].data == "q4_0 --imatrix --tensor-type attn_v=q8_0"
    assert data["tensors_by_type"]["Q8_0"] == 3  # the embedding's fallback and two attn_v
    matrix.write_bytes(dat({"blk.0.attn_q.weight": np.ones(96, np.float32)}))
    for more in ([], ["--dry-run"]):
        assert run(["quantize", *args, *more, "--force"]) == 5
        assert "made from another model" in capsys.readouterr().err
    matrix.write_bytes(b"nonsense")
    assert run(["quantize", *args, "--dry-run"]) == 5
    assert "not an importance matrix" in capsys.readouterr().err


@pytest.mark.slow
def test_a_pulled_model_is_known_by_name(
    tmp_path: Path,
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["pull", "tiny", "--json"]) == 0
    capsys.readouterr()
    data = answer(capsys, "tiny:bf16", "--type", "q4_0")
    assert data["path"] == "tiny-Q4_0.gguf"  # here, not in the store
    pulled = next((own_home / "g4-home").rglob("tiny-BF16.gguf"))
    sha256 = read_header(Path(data["path"])).keys["g4.source.sha256"].data
    assert sha256 == hashlib.sha256(pulled.read_bytes()).hexdigest()
    assert run(["quantize", "e2b:bf16"]) == 3
    assert "g4 pull" in capsys.readouterr().err

"""Importance matrices: those of llama-imatrix, interrupted runs, damaged models, and the command.

tests/oracle/record_imatrix.py recorded the files of llama-imatrix, and found g4's the same byte by
byte. On another processor the last bits of the activations differ, and so may the choice of an
expert.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from g4cli.cli.main import run
from g4cli.core.errors import BadFile, Interrupted, UsageError
from g4cli.core.gguf import read_header
from g4cli.quant.activation_sums import read_sums
from g4cli.runtime.engine.options import ModelOptions
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.runtime.measure.calibration_text import CalibrationText, read_calibration_text
from g4cli.runtime.measure.imatrix import count_sequences, make_imatrix
from g4cli.runtime.measure.messages import RunImatrix
from tests.support.builders.damage import changed
from tests.support.builders.small_networks import IMATRIX_NETWORKS, write_small_network
from tests.support.paths import GOLDEN
from tests.support.run.command import g4, ok
from tests.support.schemas import validate_output

TEXT = GOLDEN / "imatrix" / "text.txt"
DENSE, EXPERTS = IMATRIX_NETWORKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imatrix")
    for name in IMATRIX_NETWORKS:
        write_small_network(folder, name)
    return folder


def make_run(folder: Path, name: str = DENSE, **changes: Any) -> RunImatrix:
    base = RunImatrix(
        path=folder / f"{name}.gguf",
        model=ModelOptions(use_extra_bufts=False),
        text=read_calibration_text(TEXT, raw=True, name="text.txt"),
        out=folder / f"{name}.out",
        partial_file=folder / f".{name}.partial",
        job="first",
        n_ctx=128,
        n_chunks=0,
        in_files=(),
        n_threads=1,
        save_every_s=1e9,
    )
    return replace(base, **changes)


@pytest.mark.slow
@pytest.mark.parametrize("name", IMATRIX_NETWORKS)
def test_the_file_of_llama_imatrix(name: str, folder: Path) -> None:
    report = make_imatrix(make_run(folder, name), Interrupt())
    ours, theirs = folder / f"{name}.out", GOLDEN / "imatrix" / f"{name}.gguf"
    keys = [{k: str(v.data) for k, v in read_header(p).keys.items()} for p in (ours, theirs)]
    assert {**keys[0], "imatrix.datasets": ""} == {**keys[1], "imatrix.datasets": ""}
    mine, reference = read_sums(ours), read_sums(theirs)
    assert mine.datasets == reference.datasets == ("text.txt",)
    assert list(mine.matrices) == list(reference.matrices)
    assert report.n_matrices == len(mine.matrices)
    assert (report.n_experts > 0) == (name == EXPERTS)
    for key, expected in reference.matrices.items():
        found = mine.matrices[key]
        assert found.sums.shape == expected.sums.shape
        assert found.counts.sum() == expected.counts.sum()
        assert np.abs(found.counts - expected.counts).max() <= 0.01 * expected.counts.sum()
        scale = expected.sums.max()
        assert np.abs(found.sums.sum(0) - expected.sums.sum(0)).max() < 0.01 * scale, key


def interrupted_after(run: RunImatrix, n_chunks: int) -> None:
    """Make `run`, and press Ctrl-C when so many chunks are done."""
    interrupt = Interrupt()

    def press(done: int, _total: int, _label: str) -> None:
        if done >= n_chunks:
            interrupt.set()

    with pytest.raises(Interrupted):
        make_imatrix(run, interrupt, progress=press)


@pytest.mark.slow
def test_an_interrupted_run_continues_and_gives_the_same_bytes(folder: Path) -> None:
    whole = make_run(folder, n_ctx=32, out=folder / "whole.gguf")
    n_seq = count_sequences(32)
    total = make_imatrix(whole, Interrupt()).n_chunks
    assert total > 2 * n_seq
    parts = replace(whole, out=folder / "parts.gguf", save_every_s=0.0)
    interrupted_after(parts, n_seq)
    assert not parts.out.exists()
    left = read_sums(parts.partial_file)
    assert next(iter(left.matrices.values())).counts[0] == n_seq * 32
    report = make_imatrix(parts, Interrupt())
    assert (report.n_chunks, report.n_resumed) == (total, n_seq)
    assert parts.out.read_bytes() == whole.out.read_bytes()
    assert not parts.partial_file.exists()


@pytest.mark.slow
def test_what_another_run_left_is_not_used(folder: Path) -> None:
    run = make_run(folder, n_ctx=32, out=folder / "o.gguf", save_every_s=0.0)
    interrupted_after(run, 1)
    assert make_imatrix(replace(run, job="second"), Interrupt()).n_resumed == 0
    run.partial_file.write_bytes(b"GGUF")
    assert make_imatrix(run, Interrupt()).n_resumed == 0


@pytest.mark.slow
def test_a_model_whose_activations_are_not_finite(folder: Path) -> None:
    broken = folder / "broken.gguf"
    damage = changed("blk.1.attn_norm.weight", lambda values: values * np.float32(math.nan))
    broken.write_bytes(damage((folder / f"{DENSE}.gguf").read_bytes()))
    run = make_run(folder, path=broken, out=folder / "b.gguf")
    with pytest.raises(BadFile, match=r"before blk\.1\.\w+\.weight are NaN or infinite"):
        make_imatrix(run, Interrupt())
    assert not run.out.exists()


@pytest.mark.slow
def test_texts_that_are_too_short_and_files_of_other_models(folder: Path) -> None:
    short = CalibrationText("short", raw="A text.")
    with pytest.raises(BadFile, match=r"short has \d+ tokens, and a chunk has 128"):
        make_imatrix(make_run(folder, text=short), Interrupt())
    with pytest.raises(UsageError, match="the model was trained on 1,024 tokens at most"):
        make_imatrix(make_run(folder, n_ctx=8192), Interrupt())
    other = (GOLDEN / "imatrix" / f"{EXPERTS}.gguf",)
    with pytest.raises(BadFile, match="were made from another model"):
        make_imatrix(make_run(folder, in_files=other), Interrupt())


@pytest.mark.slow
def test_the_command(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "small.gguf"
    shutil.copy(folder / f"{DENSE}.gguf", model)
    words = ["imatrix", model, "--text", TEXT, "--ctx", "128", "--chunks", "4"]
    framed = ok(capsys, *words)
    validate_output(framed, "imatrix")
    assert framed["path"] == str(tmp_path / "small-imatrix.gguf")
    assert framed["datasets"] == [str(TEXT)]
    assert g4(capsys, *words)[::2] == (
        2, f"error: {framed['path']} exists\nhint: add --force to replace it, or name another "
        "file\n",
    )  # fmt: skip
    raw = ok(capsys, *words, "--raw", "-o", "raw.gguf")
    assert raw["chunks"] == 4
    added = ok(capsys, *words, "--raw", "--in-file", "raw.gguf", "-o", "2.gguf")
    merged = ok(capsys, "imatrix", "--in-file", "raw.gguf", "--in-file", "raw.gguf", "-o", "m.gguf")
    assert added["chunks_total"] == merged["chunks_total"] == 2 * raw["chunks_total"]
    validate_output(merged, "imatrix")
    name, n_ctx = raw["datasets"][0], raw["chunk_size"]
    code, shown, _ = g4(capsys, *words, "--raw", "--in-file", "raw.gguf", "--force")
    assert code == 0
    assert f"32 matrices; text: {name}\n" in shown
    assert f"  {added['chunks_total']} chunks of {n_ctx:,} tokens together\n" in shown
    assert " together" not in g4(capsys, *words, "--force")[1]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--in-file", "a.gguf"], 2, "name a model"),
        (["--in-file", "a", "--in-file", "b", "-o", "c", "--raw"], 2, "--raw needs a MODEL"),
        (["--in-file", "a", "--in-file", "b", "-o", "c", "-c", "512"], 2, "--ctx needs a MODEL"),
        (["--in-file", "a", "--cpu-moe"], 2, "--cpu-moe needs a MODEL"),
        (["--text", "x"], 2, "--text needs a MODEL"),
        (["--in-file", "a", "--in-file", "b"], 2, "adding up files needs --out"),
        (["--in-file", "a", "--in-file", "b", "-o", "c"], 3, "no such file or directory: a"),
        (["MODEL", "--raw"], 2, "--raw needs a text of your own"),
        (["MODEL", "--ctx", "8"], 2, "a chunk has 32 to 32,768 tokens, not 8"),
        (["MODEL", "--text", "nowhere"], 3, "no such file"),
        (["nowhere.gguf"], 3, "no such file"),
    ],
)
def test_requests_that_are_wrong(
    words: list[str],
    code: int,
    message: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = str(folder / f"{DENSE}.gguf")
    ended, out, err = g4(capsys, "imatrix", *(model if w == "MODEL" else w for w in words))
    assert (ended, out) == (code, "")
    assert err.startswith("error: ")
    assert message in err


def test_quantize_makes_one_by_itself_and_keeps_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    short = tmp_path / "text.jsonl"
    chat = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": TEXT.read_text()[:1500]},
    ]
    short.write_text(json.dumps({"messages": chat}))
    monkeypatch.setattr("g4cli.operations.imatrix.calibration_path", lambda: short)
    monkeypatch.setattr("g4cli.operations.imatrix.cache_dir", lambda: tmp_path / "cache")
    model = str(folder / f"{DENSE}.gguf")
    words = ["quantize", model, str(tmp_path / "q.gguf"), "-t", "q3_k_m", "--imatrix", "auto"]
    assert g4(capsys, *words, "--dry-run")[0] == 0
    assert not (tmp_path / "cache" / "imatrix").exists()
    code, _, said = g4(capsys, *words)
    assert code == 0
    (kept,) = (tmp_path / "cache" / "imatrix").iterdir()
    assert f"made from the text that ships with g4, kept as {kept}" in said
    keys = read_header(tmp_path / "q.gguf").keys
    assert keys["quantize.imatrix.dataset"].data == "g4 calibration text"
    code, _, said = g4(capsys, *words, "--force")
    assert code == 0
    assert f"importance matrix: {kept}" in said
    # What is wrong with the request is said before a matrix is made.
    kept.unlink()
    assert run(words) == 2
    assert not kept.exists()

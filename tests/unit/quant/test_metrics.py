"""Loss measures: against whole-tensor arithmetic, and the published figures of each format."""

from __future__ import annotations

from math import inf
from pathlib import Path

import gguf
import numpy as np
import pytest

from g4cli.core.errors import BadFile
from g4cli.quant.file import quantize_file
from g4cli.quant.metrics import ErrorSums, diff_files, measure_error
from g4cli.quant.recipes import Recipe
from tests.support.builders.gguf import BF16, F32, gemma4_keys, write_gguf
from tests.support.builders.weights import bf16, write_network


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One normal tensor, sigma 0.02, as in reference figures."""
    values = np.random.default_rng(6).normal(0, 0.02, 512 * 1024).astype(np.float32)
    path = tmp_path_factory.mktemp("m") / "wide.gguf"
    return write_gguf(
        path,
        gemma4_keys(1, 1024),
        [("blk.0.ffn_up.weight", BF16, (1024, 512), bf16(values).tobytes())],
    )


# dB on normal weights of sigma 0.02: measured on 4 million weights with ggml and gemma.cpp's table.
@pytest.mark.parametrize(
    ("name", "db"),
    [("q8_0", 45.43), ("q6_k", 35.02), ("sfp8", 31.5), ("q4_k_m", 22.94), ("q4_0", 21.32)],
)
def test_every_format_has_its_known_loss(wide: Path, tmp_path: Path, name: str, db: float) -> None:
    done = quantize_file(wide, tmp_path / "out.gguf", recipe=Recipe(name, pure=True))
    diff = diff_files(wide, done.path)
    assert diff.total.snr_db == pytest.approx(db, abs=0.12)
    assert diff.total.n == 512 * 1024


def test_measures_equal_whole_tensor_arithmetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from g4cli.quant import reader

    source = write_network(tmp_path / "a.gguf", n_layer=2, n_embd=128, n_ff=128, ple=0)
    done = quantize_file(source, tmp_path / "b.gguf", recipe=Recipe("q4_0"))
    monkeypatch.setattr(reader, "BLOCK_WEIGHTS", 300)
    diff = diff_files(source, done.path, threads=3)
    values = []
    for path in (source, done.path):
        tensors = gguf.GGUFReader(path).tensors
        values.append(
            {t.name: gguf.quants.dequantize(t.data, t.tensor_type).reshape(-1) for t in tensors}
        )
    assert {t.name for t in diff.tensors} == set(values[0])
    for row in diff.tensors:
        a, b = (v[row.name].astype(np.float64) for v in values)
        assert row.error.rmse == pytest.approx(float(np.sqrt(((a - b) ** 2).mean())), rel=1e-12)
        assert row.error.largest == float(np.abs(a - b).max())
        assert row.error.cosine == pytest.approx(
            float(a @ b / np.sqrt((a @ a) * (b @ b))), rel=1e-12
        )
        assert row.error.n_lost == int(((b == 0) & (a != 0)).sum())
    changed = {t.name for t in diff.tensors if t.after == "Q4_0"}
    assert {"token_embd.weight"} < {t.name for t in diff.tensors if t.after != t.before}
    assert diff.total.n == sum(
        len(v) for k, v in values[0].items() if k in changed | {"token_embd.weight"}
    )


def test_huge_untouched_numbers_do_not_flatter_the_total(tmp_path: Path) -> None:
    """rope_freqs holds 1e30 where a frequency is off."""
    rng = np.random.default_rng(1)
    data = bf16(rng.normal(0, 0.02, 64 * 64).astype(np.float32)).tobytes()
    rope = np.full(16, 1e30, np.float32).tobytes()
    source = write_gguf(
        tmp_path / "a.gguf",
        gemma4_keys(1, 64),
        [("rope_freqs.weight", F32, (16,), rope), ("blk.0.ffn_up.weight", BF16, (64, 64), data)],
    )
    done = quantize_file(source, tmp_path / "b.gguf", recipe=Recipe("q4_0"))
    assert diff_files(source, done.path).total.snr_db == pytest.approx(21.3, abs=1)


def test_same_files_have_no_error(wide: Path) -> None:
    diff = diff_files(wide, wide)
    assert diff.total.snr_db == inf
    assert diff.total.cosine == pytest.approx(1)
    assert diff.group_by_kind() == []
    assert diff.as_json()["total"]["snr_db"] is None


def test_an_archive_is_compared_by_its_values(wide: Path, tmp_path: Path) -> None:
    archive = quantize_file(wide, tmp_path / "a.gguf", recipe=Recipe("sfp8")).path
    container = quantize_file(
        wide, tmp_path / "c.gguf", recipe=Recipe("sfp8", container="bf16")
    ).path
    diff = diff_files(archive, container)
    assert diff.total.noise == 0
    assert [(t.before, t.after) for t in diff.tensors] == [("SFP8", "BF16")]


def test_worked_example() -> None:
    """(3, 4, 0, 1) against (3, 3, 0, 0): noise 2, signal 26, product 9 + 12."""
    error = measure_error(np.array([3, 4, 0, 1], np.float32), np.array([3, 3, 0, 0], np.float32))
    assert (error.signal, error.result, error.noise, error.product) == (26, 18, 2, 21)
    assert error.rmse == pytest.approx(0.5**0.5)
    assert error.snr_db == pytest.approx(11.139, abs=0.001)
    assert error.cosine == pytest.approx(21 / (26 * 18) ** 0.5)
    assert (error.n, error.largest, error.n_lost, error.n_zero) == (4, 1, 1, 2)


def test_bad_values_are_counted_and_left_out() -> None:
    error = measure_error(
        np.array([1, np.nan, 2], np.float32), np.array([1, 1, np.inf], np.float32)
    )
    assert (error.n, error.n_bad, error.noise) == (1, 2, 0)
    assert ErrorSums().cosine == 1


def test_other_models_are_refused(wide: Path, tmp_path: Path) -> None:
    other = write_network(tmp_path / "o.gguf", n_layer=1, n_embd=64, n_ff=64, ple=0)
    with pytest.raises(BadFile, match="not the same model"):
        diff_files(wide, other)
    alien = write_gguf(
        tmp_path / "x.gguf", gemma4_keys(1, 64), [("something.weight", F32, (4,), None)]
    )
    with pytest.raises(BadFile, match="no tensor in common"):
        diff_files(wide, alien)


def test_tensors_of_one_file_only_are_named(wide: Path, tmp_path: Path) -> None:
    data = bf16(np.zeros(1024 * 512, np.float32)).tobytes()
    more = write_gguf(
        tmp_path / "m.gguf",
        gemma4_keys(1, 1024),
        [("blk.0.ffn_up.weight", BF16, (1024, 512), data), ("extra.weight", F32, (4,), None)],
    )
    diff = diff_files(wide, more)
    assert diff.only == ("extra.weight",)
    assert diff.total.n_lost > 500_000

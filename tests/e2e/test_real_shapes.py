"""The builder of files without weights: read back, sparse on disk, valid blocks when random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from g4cli.core.gguf import iter_tensor, read_header
from g4cli.core.shape import shape_of
from tests.support.builders import real_shapes, shapes


@pytest.mark.parametrize("model", ["e2b", "26b"])
def test_the_header_says_the_shape_that_was_asked_for(model: str, tmp_path: Path) -> None:
    vocabulary = real_shapes.synthetic_vocabulary(300)
    path = real_shapes.build(
        tmp_path / "x.gguf", model, shapes.ALL[model], "q4_0", vocabulary=vocabulary
    )
    assert shape_of(read_header(path)) == shapes.ALL[model]
    assert path.stat().st_size > 3_000_000_000
    assert path.stat().st_blocks * 512 < 1_000_000


@pytest.mark.slow
def test_the_synthetic_vocabulary_has_the_real_size_and_places() -> None:
    data, count = real_shapes.synthetic_vocabulary()
    assert count == 12
    assert len(data) > 10_000_000
    assert b"<|turn>" in data


@pytest.mark.parametrize("type_name", ["q4_0", "q8_0", "q4_k_m", "q5_k_m", "q6_k", "bf16"])
def test_random_weights_have_the_spread_of_a_network(type_name: str, tmp_path: Path) -> None:
    """Every matrix's standard deviation is near 1/sqrt(row), read back by ggml's own decoder."""
    from g4cli.quant.native import decode_rows

    path = real_shapes.build(tmp_path / "t.gguf", "tiny", shapes.TINY, type_name, weights="random")
    header = read_header(path)
    for tensor in header.tensors.values():
        data = np.frombuffer(b"".join(iter_tensor(header, tensor)), np.uint8)
        n = int(np.prod(tensor.shape))
        rows = (n // tensor.shape[0], tensor.shape[0])
        values = decode_rows(tensor.type, data, rows).astype(np.float64)
        if tensor.name == "rope_freqs.weight":
            continue
        assert np.isfinite(values).all(), tensor.name
        if len(tensor.shape) == 2 and n > 5000:
            assert 0.8 < values.std() * tensor.shape[0] ** 0.5 < 1.25, tensor.name

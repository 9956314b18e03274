"""KV bytes against the figures that llama.cpp prints for the published shapes."""

from __future__ import annotations

import pytest

from g4cli.core.errors import UsageError
from g4cli.core.ggml import BY_NAME
from g4cli.core.units import MIB
from g4cli.estimate import Options, check_options, kv_bytes, kv_cells, kv_type
from tests.support.builders import shapes

# Printed by llama.cpp@0c1e57098 (no_alloc load of files of these shapes), MiB:
# f16 with llama.cpp's defaults | swa_full without flash attention | q8_0
PRINTED = (
    # model, context, f16, swa_full and no flash attention, q8_0 rounded
    ("e2b", 8192, 60, 192, 32),
    ("e2b", 32768, 204, 768, 108),
    ("e2b", 131072, 780, 3072, 414),
    ("e4b", 8192, 168, 608, 89),
    ("e4b", 32768, 552, 2432, 293),
    ("e4b", 131072, 2088, 9728, 1109),
    ("12b", 8192, 608, 2880, 323),
    ("12b", 32768, 992, 11520, 527),
    ("12b", 131072, 2528, 46080, 1343),
    ("26b", 8192, 460, 1840, 244),
    ("26b", 32768, 940, 7360, 499),
    ("26b", 131072, 2860, 29440, 1519),
    ("31b", 8192, 1840, 7360, 978),
    ("31b", 32768, 3760, 29440, 1998),
    ("31b", 131072, 11440, 117760, 6078),
)
# Bytes per token of the full layers, per cell of the sliding ones, and the cells of a sliding
# layer.
CONSTANTS = (
    # model, full B/token, sliding B/cell, sliding cells, sliding MiB
    ("e2b", 6144, 12288, 1024, 12),
    ("e4b", 16384, 40960, 1024, 40),
    ("12b", 16384, 327680, 1536, 480),
    ("26b", 20480, 204800, 1536, 300),
    ("31b", 81920, 819200, 1536, 1200),
)
# llama-server's own logs, published in issues: model, options, full MiB, sliding MiB
LOGS = (
    ("12b", Options(8192, n_seq=2), 128, 960),
    ("31b", Options(32768), 2560, 1200),
    ("12b", Options(16384, type_k=BY_NAME["Q8_0"], type_v=BY_NAME["Q8_0"]), 136, 255),
)


@pytest.mark.parametrize(("model", "n_ctx", "f16", "worst", "q8"), PRINTED)
def test_fifteen_cells_by_three_settings(
    model: str, n_ctx: int, f16: int, worst: int, q8: int
) -> None:
    shape, q8_0 = shapes.ALL[model], BY_NAME["Q8_0"]
    assert sum(kv_bytes(shape, Options(n_ctx))) == f16 * MIB
    assert sum(kv_bytes(shape, Options(n_ctx, swa_full=True, flash_attn=False))) == worst * MIB
    assert round(sum(kv_bytes(shape, Options(n_ctx, type_k=q8_0, type_v=q8_0))) / MIB) == q8


@pytest.mark.parametrize(("model", "per_token", "per_cell", "cells", "mib"), CONSTANTS)
def test_constants_of_each_model(
    model: str, per_token: int, per_cell: int, cells: int, mib: int
) -> None:
    shape = shapes.ALL[model]
    full, sliding = kv_bytes(shape, Options(32768))
    assert full == 32768 * per_token
    assert sliding == cells * per_cell == mib * MIB
    assert kv_cells(shape, Options(32768)).swa == cells


@pytest.mark.parametrize(("model", "options", "full", "sliding"), LOGS)
def test_published_logs(model: str, options: Options, full: int, sliding: int) -> None:
    assert kv_bytes(shapes.ALL[model], options) == (full * MIB, sliding * MIB)


def test_the_context_is_padded_and_the_batch_follows_it() -> None:
    cells = kv_cells(shapes.E2B, Options(300))
    assert (cells.full, cells.swa) == (512, 512)
    # 100 tokens: the ubatch is 100, the window is the whole context.
    assert kv_cells(shapes.TINY, Options(100)).swa == 256
    # Window 128 + ubatch 512 = 640, padded.
    assert kv_cells(shapes.TINY, Options(2048)).swa == 768


def test_sequences_split_or_share_the_context() -> None:
    apart = kv_cells(shapes.G12B, Options(8192, n_seq=2))
    assert (apart.full, apart.swa, apart.n_stream) == (4096, 1536, 2)
    together = kv_cells(shapes.G12B, Options(8192, n_seq=2, kv_unified=True))
    assert (together.full, together.swa, together.n_stream) == (8192, 2560, 1)


def test_refusals() -> None:
    check_options(shapes.E2B, Options(131073))  # llama.cpp takes it
    with pytest.raises(UsageError, match="needs flash attention"):
        check_options(shapes.E2B, Options(4096, type_v=BY_NAME["Q8_0"], flash_attn=False))
    check_options(shapes.E2B, Options(4096, type_k=BY_NAME["Q8_0"], flash_attn=False))
    with pytest.raises(UsageError, match="context of 0"):
        check_options(shapes.E2B, Options(0))
    with pytest.raises(UsageError, match="unknown KV cache type 'q3_k'"):
        kv_type("q3_k")
    assert kv_type("Q8_0") is BY_NAME["Q8_0"]

"""llama.cpp's own plan, asked live for small files; and what happens when it refuses or dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.core.errors import RuntimeFailed
from g4cli.core.ggml import BY_NAME
from g4cli.core.gguf import read_header
from g4cli.estimate import Options, kv_bytes, repacked_types
from g4cli.estimate.compute import compute_bytes
from g4cli.host import read_host
from g4cli.runtime.probes.memory import describe_run, probe_in_child
from tests.support.builders import real_shapes, shapes

Q8_0 = BY_NAME["Q8_0"]
LOG_PRECISION = 5243  # bytes: the log has two digits of MiB for each buffer
RUNS = (
    Options(8192),  # beyond the training
    Options(512),
    Options(2048, type_k=Q8_0, type_v=Q8_0, n_ubatch=256),
    Options(1024, flash_attn=False, swa_full=True),
    Options(1024, n_seq=2, n_outputs=0),
)


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of tiny's shape with random Q4_0 weights."""
    path = tmp_path_factory.mktemp("shapes") / "tiny.gguf"
    return real_shapes.build(path, "tiny", shapes.TINY, "q4_0", weights="random")


@pytest.mark.slow
def test_live_figures_equal_the_estimates(tiny_file: Path) -> None:
    tensors = tuple(read_header(tiny_file).tensors.values())
    repack = repacked_types(read_host().cpu_features)
    runs = [
        Options(**{f: getattr(o, f) for f in o.__dataclass_fields__} | {"repack": repack})
        for o in RUNS
    ]
    answer = probe_in_child(tiny_file, [describe_run(o) for o in runs])
    weights = sum(tensor.nbytes for tensor in tensors)
    for options, found in zip(runs, answer["runs"], strict=True):
        assert found["weights"] == weights
        assert sum(cache["bytes"] for cache in found["kv"]) == pytest.approx(
            sum(kv_bytes(shapes.TINY, options)), abs=2 * LOG_PRECISION
        )
        if set(found["compute"]) == {"CPU"}:  # GPUs have shares of their own
            expected = compute_bytes(shapes.TINY, options)
            assert found["compute"]["CPU"] == pytest.approx(expected, abs=LOG_PRECISION)


def test_a_refused_context_is_an_answer_not_a_crash(tiny_file: Path) -> None:
    # A quantized V cache without flash attention: g4's own check would refuse it before.
    run = describe_run(Options(512, type_v=Q8_0)) | {"flash_attn": False}
    (found,) = probe_in_child(tiny_file, [run])["runs"]
    assert "error" in found


@pytest.mark.slow
def test_a_file_that_llama_cpp_refuses(tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(RuntimeFailed, match="cannot load"):
        probe_in_child(path, [{}])


def test_a_child_that_crashes_is_reported(tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(RuntimeFailed, match="crashed"):
        probe_in_child(tiny_file, [{}])

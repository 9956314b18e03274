"""What llama.cpp allocates for several conversations is what the plan says."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.core.gguf import read_header
from g4cli.core.shape import shape_of
from g4cli.core.units import MIB
from g4cli.estimate import N_DRAFT, Options, estimate_memory, kv_bytes
from g4cli.fit.parallel import share_context
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions
from g4cli.runtime.llama.interrupt import Interrupt
from tests.support.builders.media_files import write
from tests.support.builders.tiny_file import build_tiny


def test_llama_cpp_allocates_what_is_planned(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", build_tiny())
    shape = shape_of(read_header(path))
    model = Model(path)
    cases = ((1, 1024, 0), (3, 1000, 0), (4, 2048, 0), (2, 1024, N_DRAFT), (6, 512, N_DRAFT))
    for n_parallel, n_ctx, n_draft in cases:
        options = ContextOptions(n_ctx, n_parallel=n_parallel, n_outputs=n_draft + 1)
        context = Context(model, options, Interrupt())
        planned = share_context(Options(1, repack=frozenset(), n_draft=n_draft), n_parallel, n_ctx)
        assert context.n_ctx == -(-n_ctx // 256) * 256
        # llama.cpp prints MiB with two digits, a line for each kind of layer.
        assert context.kv_bytes == pytest.approx(sum(kv_bytes(shape, planned)), abs=0.01 * MIB)
        terms = estimate_memory(shape, (), planned).terms
        compute = sum(term.nbytes for term in terms if term.name == "compute buffer")
        assert context.compute_bytes == pytest.approx(compute, abs=0.01 * MIB)
        context.close()
    model.close()

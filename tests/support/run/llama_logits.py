"""Logits of a GGUF in llama.cpp at every position, with an F32 KV cache.

The bindings are loaded as g4 does it: `import llama_cpp` would print llama.cpp's log from then on,
in all later tests of the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from g4cli.runtime.llama.library import load_llama

F32 = 0  # enum ggml_type


def logits_of(path: Path, prompts: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
    """Yield an array (positions, vocabulary) for each prompt, of at most 256 tokens."""
    lib = load_llama()
    settings = lib.llama_model_default_params()
    settings.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(str(path).encode(), settings)
    assert model, "llama.cpp does not load the file"
    try:
        n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        for ids in prompts:
            yield _run(model, list(ids), n_vocab)
    finally:
        lib.llama_model_free(model)


def _run(model: object, ids: list[int], n_vocab: int) -> NDArray[np.float32]:
    lib = load_llama()
    settings = lib.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 256
    settings.n_threads = settings.n_threads_batch = 2
    settings.swa_full = False
    settings.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.type_k = settings.type_v = F32
    context = lib.llama_init_from_model(model, settings)
    assert context
    batch = lib.llama_batch_init(len(ids), 0, 1)
    try:
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        assert lib.llama_decode(context, batch) == 0
        flat = np.ctypeslib.as_array(lib.llama_get_logits(context), (len(ids) * n_vocab,))
        return flat.reshape(len(ids), n_vocab).copy()
    finally:
        lib.llama_batch_free(batch)
        lib.llama_free(context)

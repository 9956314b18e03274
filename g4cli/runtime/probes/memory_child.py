"""The child of the memory probe: llama.cpp plans buffers for a file without loading any weights.

    python -m g4cli.runtime.probes.memory_child FILE < options.json      prints one JSON document

`model_params.no_alloc` makes llama.cpp plan every buffer and allocate none (common/fit.cpp does the
same, llama.cpp@0c1e57098). The figures come from its log, which rounds them to 0.01 MiB, and from
`llama_model_size`, which is exact; they are the same on all systems. A sparse file without weights
suffices. Standard input holds a list of objects with options (see RUN_DEFAULTS); the model is
loaded again only when an option of loading changes. With "draft" (a path) that draft model is
planned too, in a context that shares the KV cache of the first one.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from g4cli.core.errors import G4Error
from g4cli.core.quoting import shell_word
from g4cli.estimate import Options
from g4cli.runtime.engine.context import MTP
from g4cli.runtime.llama.devices import keep_experts_on_cpu
from g4cli.runtime.llama.library import LOG, engine_failure, load_llama
from g4cli.runtime.probes.memory import describe_run

# What a run is if it does not say otherwise: the settings of `g4 chat` with repacked weights and no
# draft model. "draft" is the path of one; its context, which the options with "_draft" are for,
# computes one token at a time.
RUN_DEFAULTS: Final = MappingProxyType(
    {
        **describe_run(Options(n_ctx=4096, repack=frozenset(("Q4_0",)))),
        "draft": "",
        "n_batch_draft": 1,
        "n_ubatch_draft": 1,
        "n_outputs_draft": 1,
    }
)
# The options of loading a model; all others are those of a context.
_LOADING: Final = ("draft", "repack", "n_gpu_layers", "n_cpu_moe", "tensor_split")
# A line of llama.cpp's log (src/llama-kv-cache.cpp).
_CACHE: Final = re.compile(r"llama_kv_cache:.*size = +([0-9.]+) MiB \( *(\d+) cells, +(\d+) layers")
_MIB: Final = 1024**2


def probe_memory(
    path: Path,
    runs: Sequence[Mapping[str, Any]],
    inspect: Callable[[Any], Mapping[str, Any]] = lambda _context: {},
) -> list[dict[str, Any]]:
    """Return what llama.cpp plans for each of `runs`, in order; {"error": text} where it refuses.

    A plan holds "weights": bytes of all tensors; "kv": [{"bytes", "cells", "layers"}], full
    attention first; "compute" and "output": {buffer type: bytes}; "draft": the same for the draft
    model. What `inspect` returns for a llama_context is added to its plan. Raises RuntimeFailed if
    llama.cpp cannot load the file.
    """
    c = load_llama()
    results: list[dict[str, Any]] = []
    complete = [{**RUN_DEFAULTS, **run} for run in runs]
    for loading, group in groupby(complete, lambda run: {name: run[name] for name in _LOADING}):
        with ExitStack() as stack:
            models = []
            for file in filter(None, (str(path), loading["draft"])):
                models.append(_load_model(c, file, loading))
                stack.callback(c.llama_model_free, models[-1])
            results += [_plan_contexts(c, models, run, inspect) for run in group]
    return results


def _load_model(c: Any, path: str, loading: Mapping[str, Any]) -> Any:
    LOG.clear()
    params = c.llama_model_default_params()
    params.no_alloc, params.load_mode = True, 0  # LLAMA_LOAD_MODE_NONE: nothing is mapped either
    params.use_extra_bufts = loading["repack"]
    params.n_gpu_layers = loading["n_gpu_layers"]
    # Both must live until the model is loaded.
    split = (ctypes.c_float * c.llama_max_devices())(*loading["tensor_split"])
    kept = keep_experts_on_cpu(params, loading["n_cpu_moe"]) if loading["n_cpu_moe"] else None
    if loading["tensor_split"]:
        params.tensor_split = split
    model = c.llama_model_load_from_file(os.fsencode(path), params)
    del split, kept
    if not model:
        raise engine_failure(f"llama.cpp cannot load {path}", hint=f"g4 doctor {shell_word(path)}")
    return model


def _plan_contexts(
    c: Any,
    models: Sequence[Any],
    run: Mapping[str, Any],
    inspect: Callable[[Any], Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the plan of a context of the first model and, in it, of one of the draft model."""
    contexts: list[Any] = []
    plans: dict[str, Any] = {}
    with ExitStack() as stack:
        for model in models:
            LOG.clear()
            context = c.llama_init_from_model(model, _context_params(c, run, contexts))
            if not context:
                return {"error": LOG.find_error_text() or "refused"}
            stack.callback(c.llama_free, context)
            contexts.append(context)
            plan = {
                "weights": int(c.llama_model_size(model)),
                "kv": _logged_caches(),
                "compute": _logged_buffers("compute"),
                "output": _logged_buffers("output"),
                **inspect(context),
            }
            plans = {**plans, "draft": plan} if plans else plan
    return plans


def _context_params(c: Any, run: Mapping[str, Any], others: Sequence[Any]) -> Any:
    params, suffix = c.llama_context_default_params(), ""
    if others:  # a draft model reads the hidden states and the KV cache of the first context
        params.ctx_other, suffix = others[0], "_draft"
        params.ctx_type = MTP  # multi-token prediction
    params.n_ctx, params.n_seq_max = run["n_ctx"], run["n_seq"]
    params.n_batch, params.n_ubatch = run["n_batch" + suffix], run["n_ubatch" + suffix]
    # llama.cpp aborts with fewer rows of logits than sequences; 0 means as many as the batch.
    n_outputs = run["n_outputs" + suffix]
    params.n_outputs_max = max(n_outputs, run["n_seq"]) if n_outputs else 0
    params.kv_unified, params.swa_full = run["kv_unified"], run["swa_full"]
    params.type_k, params.type_v = run["type_k"], run["type_v"]
    params.flash_attn_type = 1 if run["flash_attn"] else 0
    return params


def _logged_buffers(kind: str) -> dict[str, int]:
    return {name: round(mib * _MIB) for name, mib in LOG.list_buffers(kind)}


def _logged_caches() -> list[dict[str, int]]:
    return [
        {"bytes": round(float(m[1]) * _MIB), "cells": int(m[2]), "layers": int(m[3])}
        for line in LOG.lines
        if (m := _CACHE.match(line.text))
    ]


def main() -> None:
    """Answer for the file named on the command line and the options on standard input."""
    runs = json.load(sys.stdin)
    try:
        results = probe_memory(Path(sys.argv[1]), runs)
        print(json.dumps({"library": version("llama-cpp-python"), "runs": results}))
    except G4Error as err:
        print(json.dumps({"error": err.message}))


if __name__ == "__main__":
    main()

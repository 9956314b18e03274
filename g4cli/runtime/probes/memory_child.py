"""The child of the memory probe: llama.cpp plans a file and a set of options without loading any weights.

    python -m g4cli.runtime.probes.memory_child FILE < options.json      prints one JSON document

`model_params.no_alloc` makes llama.cpp plan every buffer and allocate none (common/fit.cpp does the same,
llama.cpp@0c1e57098). Files without weights (sparse) will do. Run as a child process: the loader aborts on
some bad files. Standard input holds one object of options or a list of them (see RUN_DEFAULTS); the model is
loaded again only when an option of loading changes. With "draft" (a path) the drafter beside it is planned
too, in a context that shares the first one's cache.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from g4cli.core.errors import G4Error
from g4cli.core.quoting import shell_word
from g4cli.runtime.engine.context import MTP
from g4cli.runtime.llama.devices import ggml_library
from g4cli.runtime.llama.library import LOG, failed, llama

# The settings of `g4 chat`; types are ggml's numbers.
RUN_DEFAULTS: Final = MappingProxyType(
    {
        "n_ctx": 4096,
        "n_batch": 2048,
        "n_ubatch": 512,
        "n_seq": 1,
        "n_outputs": 1,
        "kv_unified": False,
        "type_k": 1,
        "type_v": 1,
        "flash_attn": True,
        "swa_full": False,
        "n_batch_draft": 1,
        "n_ubatch_draft": 1,
        "n_outputs_draft": 1,
        # of loading
        "draft": "",
        "repack": True,
        "n_gpu_layers": 0,
        "n_cpu_moe": 0,
        "tensor_split": (),
    }
)
_LOADING: Final = ("draft", "repack", "n_gpu_layers", "n_cpu_moe", "tensor_split")
_CACHE: Final = re.compile(r"size = +([0-9.]+) MiB \( *(\d+) cells, +(\d+) layers")
_OUTPUT: Final = re.compile(r"(\S+) +output buffer size = +([0-9.]+) MiB")
_BREAKDOWN: Final = "_Z26llama_get_memory_breakdownPK13llama_context"
_MIB: Final = 1024**2


class _Node(ctypes.Structure):
    """A node of libstdc++'s std::map<buffer type, llama_memory_breakdown_data>."""


_Node._fields_ = (
    ("color", ctypes.c_size_t),
    ("parent", ctypes.POINTER(_Node)),
    ("left", ctypes.POINTER(_Node)),
    ("right", ctypes.POINTER(_Node)),
    ("buft", ctypes.c_void_p),
    ("model", ctypes.c_size_t),
    ("context", ctypes.c_size_t),
    ("compute", ctypes.c_size_t),
)


class _Map(ctypes.Structure):
    """libstdc++'s std::map itself: a comparator (empty), the header node's links, the number of items."""

    _fields_ = (
        ("compare", ctypes.c_size_t),
        ("color", ctypes.c_size_t),
        ("root", ctypes.POINTER(_Node)),
        ("left", ctypes.POINTER(_Node)),
        ("right", ctypes.POINTER(_Node)),
        ("count", ctypes.c_size_t),
    )


class _BuftOverride(ctypes.Structure):
    _fields_ = (("pattern", ctypes.c_char_p), ("buft", ctypes.c_void_p))


def probe_memory(path: Path, runs: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what llama.cpp plans for each of `runs`, in order.

    {"buffers": {buffer type: {"model", "context", "compute"}}, bytes; "kv": [{"bytes", "cells", "layers"}],
    full attention first, as the log rounds them to 0.01 MiB; "output": {buffer: bytes}; "draft": the same of
    the drafter}, or {"error": text} where llama.cpp refuses the context. Raises RuntimeFailed if it cannot
    load the file.
    """
    c = llama()
    results: list[dict[str, Any]] = []
    models: list[Any] = []
    loaded: dict[str, Any] | None = None
    for given in runs:
        run = {**RUN_DEFAULTS, **given}
        wanted = {name: run[name] for name in _LOADING}
        if wanted != loaded:
            while models:
                c.llama_model_free(models.pop())
            models = [_load(c, file, run) for file in (path, run["draft"]) if str(file)]
            loaded = wanted
        results.append(_plan(c, models, run))
    while models:
        c.llama_model_free(models.pop())
    return results


def _load(c: Any, path: Path | str, run: Mapping[str, Any]) -> Any:
    LOG.clear()
    params, keep = _model_params(c, run)
    model = c.llama_model_load_from_file(os.fsencode(path), params)
    del keep
    if not model:
        raise failed(f"llama.cpp cannot load {path}", hint=f"g4 doctor {shell_word(path)}")
    return model


def _plan(c: Any, models: Sequence[Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan of a context of the first model and, beside it, of one of the drafter."""
    contexts: list[Any] = []
    found: dict[str, Any] = {}
    for model in models:
        LOG.clear()
        context = c.llama_init_from_model(model, _context_params(c, run, contexts))
        if not context:
            found = {"error": LOG.complaint() or "refused"}
            break
        contexts.append(context)
        plan = {"buffers": _breakdown(c, context), "kv": _caches(), "output": _outputs()}
        found = {**found, "draft": plan} if found else plan
    while contexts:
        c.llama_free(contexts.pop())
    return found


def _model_params(c: Any, run: Mapping[str, Any]) -> tuple[Any, list[Any]]:
    params, keep = c.llama_model_default_params(), []
    params.no_alloc, params.load_mode = True, 0  # nothing may be mapped either
    params.use_extra_bufts = run["repack"]
    params.n_gpu_layers = run["n_gpu_layers"]
    if run["tensor_split"]:
        split = (ctypes.c_float * c.llama_max_devices())(*run["tensor_split"])
        params.tensor_split = split
        keep.append(split)
    if run["n_cpu_moe"]:
        cpu = ggml_library().ggml_backend_cpu_buffer_type()
        # llm_ffn_exps_block_regex, common/common.h, llama.cpp@0c1e57098
        patterns = [
            rb"blk\.%d\.ffn_(up|down|gate|gate_up)_(ch|)exps" % i for i in range(run["n_cpu_moe"])
        ]
        table = (_BuftOverride * (len(patterns) + 1))(*[_BuftOverride(p, cpu) for p in patterns])
        params.tensor_buft_overrides = ctypes.cast(table, ctypes.c_void_p)
        keep += [patterns, table]
    return params, keep


def _context_params(c: Any, run: Mapping[str, Any], others: Sequence[Any]) -> Any:
    params, of = c.llama_context_default_params(), ""
    if others:  # the drafter's: it reads the hidden states and the cache of the first
        params.ctx_other, of = others[0], "_draft"
        params.ctx_type = MTP
    params.n_ctx, params.n_batch, params.n_ubatch = (
        run["n_ctx"],
        run["n_batch" + of],
        run["n_ubatch" + of],
    )
    params.n_seq_max = run["n_seq"]
    # llama.cpp asserts one row for each sequence; 0 means as many as the batch.
    n_outputs = run["n_outputs" + of]
    params.n_outputs_max = max(n_outputs, run["n_seq"]) if n_outputs else 0
    params.kv_unified, params.swa_full = run["kv_unified"], run["swa_full"]
    params.type_k, params.type_v = run["type_k"], run["type_v"]
    params.flash_attn_type = 1 if run["flash_attn"] else 0
    return params


def _breakdown(c: Any, context: Any) -> dict[str, dict[str, int]]:
    """Return llama.cpp's breakdown by buffer type, or nothing where its C++ map cannot be read.

    The function is C++ and returns a std::map, hence the nodes above: libstdc++ (Linux) only.
    """
    function = getattr(c._lib, _BREAKDOWN, None) if sys.platform == "linux" else None
    if function is None:
        return {}
    ggml = ggml_library()
    ggml.ggml_backend_buft_name.restype = ctypes.c_char_p
    ggml.ggml_backend_buft_name.argtypes = [ctypes.c_void_p]
    found = _Map()
    # A class returned by value is built where the caller's hidden first argument points.
    function.restype, function.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p]
    function(ctypes.byref(found), context)
    result: dict[str, dict[str, int]] = {}
    for node in _nodes(found.root):
        name = ggml.ggml_backend_buft_name(node.buft).decode()
        result[name] = {"model": node.model, "context": node.context, "compute": node.compute}
    if len(result) != found.count:
        return {}
    return result


def _nodes(root: Any) -> Iterator[Any]:
    if root:
        node = root.contents
        yield from _nodes(node.left)
        yield node
        yield from _nodes(node.right)


def _outputs() -> dict[str, int]:
    matches = (_OUTPUT.search(line.text) for line in LOG.lines)
    return {m[1]: round(float(m[2]) * _MIB) for m in matches if m}


def _caches() -> list[dict[str, int]]:
    matches = (
        _CACHE.search(line.text) for line in LOG.lines if line.text.startswith("llama_kv_cache:")
    )
    return [
        {"bytes": round(float(m[1]) * _MIB), "cells": int(m[2]), "layers": int(m[3])}
        for m in matches
        if m
    ]


def main() -> None:
    """Answer for the file named on the command line and the options on standard input."""
    runs = json.load(sys.stdin)
    try:
        results = probe_memory(Path(sys.argv[1]), runs if isinstance(runs, list) else [runs])
        print(json.dumps({"library": version("llama-cpp-python"), "runs": results}))
    except G4Error as err:
        print(json.dumps({"error": err.message, "exit_code": err.exit_code}))


if __name__ == "__main__":
    main()

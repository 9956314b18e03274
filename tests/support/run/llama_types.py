"""Get the types that llama.cpp chooses for the tensors of a network, from names and shapes.

    python -m tests.support.run.llama_types < request.json

The library exports what its own tests use (src/llama-ext.h: llama_quant_compute_types), by C++
names.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from typing import Any

from tests.support.paths import ROOT
from tests.support.run.llama_quantize import FTYPES

# Names of the exported C++ functions, as g++ and clang write them.
MODEL = "_Z31llama_quant_model_from_metadataPK22llama_quant_model_desc"
INIT = "_Z16llama_quant_initPK11llama_modelPK27llama_model_quantize_params"
TYPES = (
    "_Z25llama_quant_compute_typesP19quantize_state_impl11llama_ftypePP11ggml_tensorP9ggml_typem"
)


class _Desc(ctypes.Structure):
    """struct llama_quant_model_desc."""

    _fields_ = (
        ("architecture", ctypes.c_char_p),
        ("n_embd", ctypes.c_uint32),
        ("n_ff", ctypes.c_uint32),
        ("n_layer", ctypes.c_uint32),
        ("n_head", ctypes.c_uint32),
        ("n_head_kv", ctypes.c_uint32),
        ("n_expert", ctypes.c_uint32),
        ("n_embd_head_k", ctypes.c_uint32),
        ("n_embd_head_v", ctypes.c_uint32),
    )


class _InitParams(ctypes.Structure):
    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


def ask(requests: list[dict[str, Any]]) -> list[list[int]]:
    """Return, per request, the ggml type number of each tensor.

    A request has "type" (the file's, a key of FTYPES), "model" (fields of _Desc by name), "tensors"
    (name, present type number, shape) and perhaps "pure" (llama_model_quantize_params).
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.run.llama_types"],
        cwd=ROOT,
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return list(json.loads(done.stdout))


def _answer(request: dict[str, Any]) -> list[int]:
    from llama_cpp import llama_cpp as lib

    llama = lib._lib
    folder = lib._base_path if hasattr(lib, "_base_path") else os.path.dirname(llama._name)
    ggml = ctypes.CDLL(os.path.join(str(folder), "libggml-base.so"))
    ggml.ggml_init.argtypes, ggml.ggml_init.restype = (_InitParams,), ctypes.c_void_p
    new = ggml.ggml_new_tensor
    new.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int64))
    new.restype = ctypes.c_void_p
    ggml.ggml_set_name.argtypes, ggml.ggml_set_name.restype = (
        (ctypes.c_void_p, ctypes.c_char_p),
        ctypes.c_void_p,
    )
    context = ggml.ggml_init(_InitParams(1 << 24, None, True))
    tensors = []
    for name, kind, shape in request["tensors"]:
        tensor = new(context, kind, len(shape), (ctypes.c_int64 * len(shape))(*shape))
        ggml.ggml_set_name(tensor, name.encode())
        tensors.append(tensor)
    getattr(llama, MODEL).restype = ctypes.c_void_p
    model = getattr(llama, MODEL)(ctypes.byref(_Desc(b"gemma4", **request["model"])))
    params = lib.llama_model_quantize_default_params()
    params.pure = request.get("pure", False)
    init = getattr(llama, INIT)
    init.argtypes, init.restype = (ctypes.c_void_p, ctypes.c_void_p), ctypes.c_void_p
    state = init(model, ctypes.addressof(params))
    result = (ctypes.c_int * len(tensors))()
    compute = getattr(llama, TYPES)
    compute.argtypes = (
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
    )
    compute.restype = None
    pointers = (ctypes.c_void_p * len(tensors))(*tensors)
    compute(
        state,
        FTYPES[request["type"]],
        ctypes.addressof(pointers),
        ctypes.addressof(result),
        len(tensors),
    )
    return list(result)


def _main() -> None:
    answer = os.dup(1)
    os.dup2(2, 1)  # what llama.cpp prints must not become part of the answer
    lists = [_answer(request) for request in json.load(sys.stdin)]
    os.write(answer, json.dumps(lists).encode())


if __name__ == "__main__":
    _main()

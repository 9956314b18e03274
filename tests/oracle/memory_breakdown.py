"""llama.cpp's memory breakdown to the byte, read out of a C++ std::map: Linux with libstdc++ only.

    python tests/oracle/memory_breakdown.py FILE < options.json

Answers as `g4cli.runtime.probes.memory_child` does, with "buffers" added to each plan: {buffer
type: {"model", "context", "compute"}}, in bytes. The log of llama.cpp rounds to 0.01 MiB; its
estimates are compared to the byte with these figures (`record_memory.py`).
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.core.errors import G4Error
from g4cli.runtime.llama.devices import load_ggml
from g4cli.runtime.llama.library import load_llama
from g4cli.runtime.probes.memory_child import probe_memory

# src/llama-ext.h declares it; a C++ function, exported under its mangled name.
_BREAKDOWN: Final = "_Z26llama_get_memory_breakdownPK13llama_context"


class _Node(ctypes.Structure):
    """A node of libstdc++'s std::map<buffer type, llama_memory_breakdown_data>."""


_Node._fields_ = (
    ("color", ctypes.c_size_t),
    ("parent", ctypes.POINTER(_Node)),
    ("left", ctypes.POINTER(_Node)),
    ("right", ctypes.POINTER(_Node)),
    ("buffer_type", ctypes.c_void_p),
    ("model", ctypes.c_size_t),
    ("context", ctypes.c_size_t),
    ("compute", ctypes.c_size_t),
)


class _Map(ctypes.Structure):
    """libstdc++'s std::map itself: a comparator (empty), the links of its header node, its size."""

    _fields_ = (
        ("compare", ctypes.c_size_t),
        ("color", ctypes.c_size_t),
        ("root", ctypes.POINTER(_Node)),
        ("left", ctypes.POINTER(_Node)),
        ("right", ctypes.POINTER(_Node)),
        ("count", ctypes.c_size_t),
    )


def read_breakdown(context: Any) -> dict[str, Any]:
    """Return {"buffers": ...} of a llama_context."""
    function = getattr(load_llama()._lib, _BREAKDOWN)
    ggml = load_ggml()
    ggml.ggml_backend_buft_name.restype = ctypes.c_char_p
    ggml.ggml_backend_buft_name.argtypes = [ctypes.c_void_p]
    found = _Map()
    # A class returned by value is built where the caller's hidden first argument points.
    function.restype, function.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p]
    function(ctypes.byref(found), context)
    buffers: dict[str, dict[str, int]] = {}
    for node in _walk_nodes(found.root):
        name = ggml.ggml_backend_buft_name(node.buffer_type).decode()
        buffers[name] = {"model": node.model, "context": node.context, "compute": node.compute}
    assert len(buffers) == found.count, "this is not the std::map of libstdc++"
    return {"buffers": buffers}


def _walk_nodes(root: Any) -> Iterator[Any]:
    if root:
        node = root.contents
        yield from _walk_nodes(node.left)
        yield node
        yield from _walk_nodes(node.right)


def main() -> None:
    """Answer for the file named on the command line and the options on standard input."""
    try:
        results = probe_memory(Path(sys.argv[1]), json.load(sys.stdin), read_breakdown)
        print(json.dumps({"library": version("llama-cpp-python"), "runs": results}))
    except G4Error as err:
        print(json.dumps({"error": err.message}))


if __name__ == "__main__":
    main()

"""The functions of llama.cpp that hand out hidden states, or leave out the rows nobody needs.

llama.cpp calls them staging and exports them under their C++ names, declared in src/llama-ext.h
(llama.cpp@0c1e57098): a build may have none of them.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from g4cli.runtime.llama.library import load_llama

# The mangled names of Linux and macOS of two functions. The first one takes a context, whether it
# shall hand out hidden states, and whether only for tokens that get logits. The second one takes a
# context and a row of its last batch, and returns the hidden state there.
SET_STATES: Final = "_Z26llama_set_embeddings_nextnP13llama_contextbb"
STATE: Final = "_Z30llama_get_embeddings_nextn_ithP13llama_contexti"


def find_function(name: str) -> Any:
    """Return llama.cpp's function of that exported name with its types declared, or None."""
    found = getattr(load_llama()._lib, name, None)
    if found is None:
        return None
    if name == STATE:
        found.argtypes, found.restype = (
            (ctypes.c_void_p, ctypes.c_int32),
            ctypes.POINTER(ctypes.c_float),
        )
    else:
        found.argtypes, found.restype = (ctypes.c_void_p, ctypes.c_bool, ctypes.c_bool), None
    return found


def skip_unused_rows(context: Any) -> None:
    """Let the last layer compute only the tokens that get logits, if this build can do so.

    Of a prompt that is one token: with E2B's 35 layers, reading it takes about 3 % less time
    (src/models/gemma4.cpp, `embeddings_nextn_masked`). `context`: llama.cpp's pointer.
    """
    if set_states := find_function(SET_STATES):
        set_states(context, False, True)  # no hidden states, of no token without logits

"""What to do about a finding: commands, shared by the checks.

`diagnose.insert_names` replaces FILE, FOLDER, OUT and `g4 pull MODEL` by the names of the file, of
its folder, of a repaired copy and of the model.
"""

from __future__ import annotations

import sys
from typing import Final

from g4cli import LLAMA_CPP_PYTHON
from g4cli.core.quoting import shell_word

EXAMINE: Final = "g4 doctor FILE"
EXAMINE_DEEP: Final = "g4 doctor FILE --deep"
REPAIR: Final = "g4 doctor FILE --fix OUT"
REPAIR_TEMPLATE: Final = f"{REPAIR} (writes a copy with Gemma 4's chat template)"
DOWNLOAD_AGAIN: Final = "download the file again: g4 pull MODEL, or the command that downloaded it"
GET_ANOTHER: Final = "get another file: g4 pull MODEL"
RECONVERT: Final = "get another file (g4 pull MODEL) or convert it again (g4 convert DIR)"
GET_PLAIN_GGUF: Final = "get the plain GGUF, and its mmproj: g4 pull MODEL"
GET_MMPROJ: Final = "get the mmproj of the same model: g4 pull MODEL"
QUANTIZE_SFP8: Final = "quantize it again: g4 quantize SOURCE --type sfp8, or g4 pull MODEL"
UPDATE_ENGINE: Final = "update llama.cpp (g4 doctor shows its version)"
REPORT_BUG: Final = "report it: g4 doctor FILE --report bug.md"
TRY_SMALLER: Final = "g4 fit FILE"
USE_CPU: Final = "g4 chat FILE --gpu-layers 0, then update llama.cpp and the GPU driver"
USE_Q8_0_CACHE: Final = f"g4 chat FILE --kv-type q8_0, and {REPORT_BUG}"

# g4 has no other file of a model that is no Gemma 4, no repair for it, and does not run it.
_ANOTHER_FILE: Final = "download another file of the same model"
OTHER_MODEL_ADVICE: Final = {
    GET_ANOTHER: _ANOTHER_FILE,
    DOWNLOAD_AGAIN: "download the file again",
    RECONVERT: f"{_ANOTHER_FILE}, or convert it again (llama.cpp's convert_hf_to_gguf.py)",
    REPAIR_TEMPLATE: _ANOTHER_FILE,
    TRY_SMALLER: "a smaller type of the same model",
    USE_CPU: USE_CPU.replace("g4 chat FILE", "llama-cli -m FILE"),
    USE_Q8_0_CACHE: f"llama-cli -m FILE -ctk q8_0 -ctv q8_0, and {REPORT_BUG}",
}
"""What to do instead about a model of another architecture, by the advice for Gemma 4."""

# This Python, since g4 may be installed by pip, pipx or uv, or run from a clone.
_PIP: Final = f"{shell_word(sys.executable)} -m pip install"
INSTALL: Final = f"{_PIP} g4cli"
INSTALL_LIBRARY: Final = f"{_PIP} llama-cpp-python=={LLAMA_CPP_PYTHON}"
REINSTALL_ENGINE: Final = f"{_PIP} --force-reinstall --no-deps llama-cpp-python=={LLAMA_CPP_PYTHON}"
# Without --no-cache-dir pip would reuse the wheel that it compiled before.
REBUILD_ENGINE: Final = (
    f'CMAKE_ARGS="$({shell_word(sys.executable)} -m g4cli.core.build_flags)" '
    f"{_PIP} --force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python "
    f"llama-cpp-python=={LLAMA_CPP_PYTHON}"
)

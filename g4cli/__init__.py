"""g4: Gemma 4 on your own machine."""

from typing import Final

__version__: Final = "0.2.0.dev0"
# The version of llama-cpp-python that pyproject.toml requires. It contains one build of llama.cpp,
# for which alone the figures of `g4cli.estimate` hold.
LLAMA_CPP_PYTHON: Final = "0.3.36"

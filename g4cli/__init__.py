"""g4: Gemma 4 on your own machine."""

from typing import Final

__version__: Final = "0.2.0.dev0"
# The one build of llama.cpp for which the figures of `g4cli.estimate` hold. pyproject.toml requires
# it too.
LLAMA_CPP_PYTHON: Final = "0.3.36"

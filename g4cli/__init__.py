"""g4: Gemma 4 on your own machine."""

__version__ = "0.1.0"

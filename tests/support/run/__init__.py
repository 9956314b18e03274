"""Run g4, a terminal, or llama.cpp itself."""

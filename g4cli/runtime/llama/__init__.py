"""llama.cpp's C library: loading it, its log, its devices, interrupting it."""

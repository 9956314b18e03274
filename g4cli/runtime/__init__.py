"""The only in-process users of llama.cpp."""

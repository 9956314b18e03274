"""Ask llama.cpp in a child process: tokenize, answer, compare. Judges nothing."""

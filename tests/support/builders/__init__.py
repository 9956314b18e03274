"""Builders of test files. The bytes of their GGUF files do not come from g4's own code."""

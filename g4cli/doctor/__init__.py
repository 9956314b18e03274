"""Checks that find out why a machine or a GGUF misbehaves, and the verdict they add up to."""

"""Measurements: speed in llama-bench's terms, and the quality of predictions."""

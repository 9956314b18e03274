"""Hugging Face checkpoints to GGUF."""

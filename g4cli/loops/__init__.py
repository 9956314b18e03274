"""Detects loops in a stream of token ids. Needs no text, no model and no clock."""

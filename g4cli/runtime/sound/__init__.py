"""Decode recordings of any length to samples as the audio encoder takes them."""

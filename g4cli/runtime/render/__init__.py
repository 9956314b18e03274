"""Drawings to pixels, by resvg in a child process with limits."""

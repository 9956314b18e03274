"""Checks, which judge facts. A file holds the checks of one family and has its name."""

"""Checks that judge facts. Each file holds one family of check ids."""

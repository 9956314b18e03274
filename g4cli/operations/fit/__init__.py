"""Estimate whether a model fits a machine, and what would fit instead."""

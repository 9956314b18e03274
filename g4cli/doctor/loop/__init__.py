"""Experiments that tell why a model repeats itself: which to run, and what follows from them."""

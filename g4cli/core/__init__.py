"""Facts and formats: the standard library and numpy, nothing else."""

"""Facts about a file, read once: header, samples of the data, counts."""

"""Facts about a file or this machine: header, samples of the data, counts. Judges nothing."""

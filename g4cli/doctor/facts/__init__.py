"""Read the facts about a file or this machine: header, samples of the data, counts."""

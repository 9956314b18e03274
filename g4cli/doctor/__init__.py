"""Find out why a GGUF, or this machine, does not work: facts are read once, checks look at facts."""

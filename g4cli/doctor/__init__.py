"""Find out why a GGUF, or this machine, does not work: facts, checks, verdict, repair."""

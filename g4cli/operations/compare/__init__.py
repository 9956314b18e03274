"""`g4 compare`: the same prompts for several models, and what became of the answers."""

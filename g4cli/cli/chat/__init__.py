"""The terminal side of `g4 chat`: the conversation loop, its slash commands, one-shot answers."""

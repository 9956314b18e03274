"""Options and arguments of the commands, declared once and shared."""

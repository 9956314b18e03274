"""How results look in a terminal and as JSON, one file per command."""

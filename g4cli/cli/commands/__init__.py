"""The commands of g4, one per file: parse the options, call one operation, show the result."""

"""The commands of g4, one file each: parse the options, call one operation, show the result."""

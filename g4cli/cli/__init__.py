"""The command line: parse the options, call one operation, show the result."""

"""Tools that g4 runs for the model: Python functions, built-in ones, and those of MCP servers."""

"""Models behind an OpenAI-style HTTP endpoint, on this machine or another."""

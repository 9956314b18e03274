"""Get a model: from the hub, from a local file, or made on this machine."""

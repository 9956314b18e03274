"""Fakes of what tests cannot use: hubs, networks, faulty engines."""

"""Stand-ins for what tests cannot have: hubs, networks, faulty engines."""

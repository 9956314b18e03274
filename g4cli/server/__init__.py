"""The HTTP server of `g4 serve`: routes, wire formats, errors, and what keeps strangers out."""

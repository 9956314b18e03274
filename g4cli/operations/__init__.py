"""One use case per module: resolve the request, plan, act. No terminal, no HTTP.

Messages and progress go to the Reporter that is passed in.
"""

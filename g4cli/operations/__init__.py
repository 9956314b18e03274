"""One use case each: resolve the request, plan, act. No terminal, no HTTP; progress goes to a Reporter."""

"""One use case each: resolve, plan, act. No terminal and no HTTP; progress goes to a Reporter."""

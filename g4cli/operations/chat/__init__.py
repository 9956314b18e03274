"""Plan and open a chat: context, layers on GPUs, speculative decoding."""

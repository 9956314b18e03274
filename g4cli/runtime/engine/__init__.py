"""The engine: a model, its context, sampling, media and speculative decoding."""

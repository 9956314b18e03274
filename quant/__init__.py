"""GGUF to GGUF: types, recipes and the encoders behind them."""

"""Quantize Gemma 4: recipes, ggml's encoders by ctypes, SFP8, the GGUF to GGUF driver.

Of g4's other packages this one imports g4cli.core only. All calls of ggml are in quant.native.

    from g4cli.quant.recipes import Recipe
    from g4cli.quant.file import quantize_file
    done = quantize_file(source, target, recipe=Recipe("q4_0"), progress=progress)

These are the steps, which others use too: `recipes.choose_types` gives tensors their types,
without numpy; `encode.open_encoder` encodes them in threads; `expand.make_runnable` writes an SFP8
archive as a file that llama.cpp can run; `metrics.diff_files` and `scores.score_predictions`
measure what was lost.
"""

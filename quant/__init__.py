"""Quantize Gemma 4: recipes, ggml's encoders by ctypes, SFP8, the GGUF to GGUF driver.

The interface for other packages:

    from g4cli.quant.recipes import Recipe, choose_types
    recipe = Recipe("q4_0")                       # also pure=, overrides=, container= (of sfp8)
    specs = choose_types(tensors, recipe)         # -> tuple[TensorSpec, ...] in file order
        `tensors`: anything with .name and .shape (row length first); a .type is the type in the
        source file, by default what the converter gives (norms and vectors F32, the rest BF16).
        No numpy needed.

    from g4cli.quant.encode import Job, open_encoder
    with open_encoder(recipe) as encode:              # on all cores
        for piece in encode.encode_jobs([Job(spec, rows)]):   # rows: core/row_blocks.py
            writer.write(piece)                       # a memoryview of bytes of spec.type, in order

    from g4cli.quant.file import quantize_file
    done = quantize_file(source, target, recipe=recipe, progress=progress)
        # -> Quantized(path, type, nbytes, sha256, seconds, ...)

    from g4cli.quant.expand import make_runnable
    from g4cli.quant.sfp8_archive import expanded_header
    path = make_runnable(path, cache)             # an SFP8 archive is expanded into `cache`, once
    header = expanded_header(read_header(path))   # what the expansion's header would say

    from g4cli.quant.metrics import diff_files        # the differences of two files' weights
    from g4cli.quant.scores import score_predictions  # perplexity and divergence from logits

Of g4's other packages this one imports g4cli.core only. All calls of ggml are in quant.native.
"""

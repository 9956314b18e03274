"""Quantise Gemma 4: recipes, ggml's encoders by ctypes, SFP8, the GGUF to GGUF driver.

What other parts call (all of it stable):

    from quant.recipes import Recipe, choose_types
    recipe = Recipe("q4_0")                       # also pure=, overrides=, carrier="bf16"|"q8_0"|None (sfp8)
    specs = choose_types(tensors, recipe)         # -> tuple[TensorSpec, ...] in the order of the new file
        `tensors`: anything with .name and .shape (row length first); a .type is the type in the source file,
        without one it is what the converter gives (norms and vectors F32, the rest BF16). No numpy needed.

    from quant.encode import encoder, rows_of
    with encoder(recipe) as encode:               # on all cores
        for piece in encode(spec, rows_of(array)):    # array: float32, float16, or uint16 holding BF16
            writer.write(piece)                       # a memoryview of bytes of spec.type, in order

    from quant.file import quantize_file
    done = quantize_file(source, target, recipe=recipe, progress=progress)
        # -> Quantized(path, type, nbytes, sha256, seconds, ...)

    from quant.sfp8_file import expand
    expand(source, target, carrier="bf16", progress=progress)     # an SFP8 archive into what llama.cpp runs

This package sees of g4cli only g4cli.core, and nothing but quant.native touches ggml's C library.
"""

"""Hugging Face checkpoints of Gemma 4 to GGUF: one pass, no torch, constant memory.

    checkpoint.py  a folder of safetensors, bounded and memory-mapped
    config.py      config.json, both spellings, as one typed Config
    names.py       the ordered table: checkpoint name -> GGUF name and transform
    transforms.py  the few changes of layout and value, with their sources
    tokenizer.py   tokenizer.json -> tokens, scores, types, merges, special ids
    metadata.py    general.*: name, size label, sampling, model card
    text.py, vision.py, audio.py, assistant.py   keys and expected tensors of each part
    convert.py     the driver: plan, encode in row blocks, write, read back

How to call it (`g4 convert` and `g4 pull` do exactly this):

    from converters import convert_checkpoint
    done = convert_checkpoint(folder, target, plain=BF16)              # BF16, F16 or F32 by numpy alone
    done = convert_checkpoint(                                         # any other type
        folder, target, plain=BF16,
        choose_types=lambda keys, specs: [...],   # one GGMLType per TensorSpec of the plain conversion
        encode=encode,                            # (spec, rows: float32 [n, ne0]) -> n rows of spec.type
        file_type=2, extra_keys={"g4.format": string("SFP8")},
        progress=progress,
    )
    done.path, done.nbytes, done.sha256, done.n_tensors, done.ignored

`part="mmproj"` writes the vision and audio towers instead. The converter sees of g4cli only core: the
recipe and the encoder of `quant` come in as arguments, put together by `g4cli.cli`.
"""

from converters.convert import Converted, convert_checkpoint

__all__ = ["Converted", "convert_checkpoint"]

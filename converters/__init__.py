"""Hugging Face checkpoints of Gemma 4 to GGUF: one pass, no torch, constant memory.

    folder_file.py opens files of a checkpoint, which may be links or devices
    checkpoint.py  a folder of safetensors, bounded and memory-mapped
    config.py      config.json, both spellings, as one typed Config
    media_config.py  its parts for images and audio
    config_keys.py which keys are read, fixed or free
    json_reader.py typed reads that collect faults
    names.py       the ordered table: checkpoint name -> GGUF name and transform
    transforms.py  the few changes of layout and value, with their sources
    tokenizer.py   tokenizer.json -> tokens, scores, types, merges, special ids
    special_tokens.py  which tokens are special
    metadata.py    general.*: name, size label, sampling defaults
    model_card.py  the front matter of README.md
    text.py, vision.py, audio.py, assistant.py   keys and expected tensors of each network
    parts.py       the two files that a checkpoint can become: text network and mmproj
    blocks.py      row blocks, and the coder of the unquantized types
    convert.py     the conversion: plan, encode in row blocks, write, read back

The interface, as `g4 convert` and `g4 pull` use it:

    from g4cli.converters import convert_checkpoint
    done = convert_checkpoint(folder, target, plain=BF16, progress=progress)     # or F16, F32
    done = convert_checkpoint(folder, target, plain=BF16, coder=coder)           # any other type
    done.path, done.nbytes, done.sha256, done.n_tensors, done.types, done.ignored

`part="mmproj"` writes the vision and audio encoders instead. A coder (blocks.Coder) gives tensors
their types and bytes. The coder with the recipes of `quant` is g4cli.store.recode: this package
imports only g4cli.core.
"""

from g4cli.converters.convert import Converted, convert_checkpoint

__all__ = ["Converted", "convert_checkpoint"]

"""Hugging Face checkpoints of Gemma 4 to GGUF: one pass, no torch, constant memory.

convert.py is the conversion. names.py maps the tensors of a checkpoint to those of a GGUF by the
tables of text.py, vision.py and audio.py; config.py reads the shape of the network that they need.

    from g4cli.converters import convert_checkpoint
    done = convert_checkpoint(folder, target, plain=BF16, progress=progress)     # or F16, F32
    done = convert_checkpoint(folder, target, plain=BF16, coder=coder)           # any other type

`part="mmproj"` writes the vision and audio encoders instead. A coder (blocks.Coder) gives tensors
their types and bytes. The coder with the recipes of `quant` is g4cli.store.recode: this package
imports only g4cli.core.
"""

from g4cli.converters.convert import Converted, convert_checkpoint

__all__ = ["Converted", "convert_checkpoint"]

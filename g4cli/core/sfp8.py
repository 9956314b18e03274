"""The GGUF keys that label SFP8 values, and the table of the format.

g4.format      "SFP8": every coded tensor holds exactly SFP8 values. Another text says how a file
               that was quantized from them differs, such as "SFP8 rounded, stored as Q8_0"
g4.container   I8 (an archive of codes); BF16 or F32 (the values themselves, which llama.cpp runs);
               else the type that the values were quantized to
g4.sfp8.*      specification, encoder, scale rule, names of the coded tensors; in archives the table
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from g4cli.core.gguf_values import Array, Value, ValueType, find_data

ARCHIVE_SUFFIX: Final = "-sfp8"  # of general.architecture
SCALE_SUFFIX: Final = ".sfp8_scale"  # of the tensor that holds a coded tensor's scale
FORMAT_KEY: Final = "g4.format"
CONTAINER_KEY: Final = "g4.container"
TENSORS_KEY: Final = "g4.sfp8.tensors"
TABLE_KEY: Final = "g4.sfp8.decode_bf16"
ENCODER_KEY: Final = "g4.sfp8.encoder"
FORMAT: Final = "SFP8"
RESERVED: Final = 0x80  # the code that stands for no value

# Largest magnitude of a scale's exponent: bfloat16 reaches from 2^-126 to 2^127, the codes from
# 1.25 * 2^-23 to 1.875, so that scaled values stay far within its normal range.
MAX_EXPONENT: Final = 60


def decode_words() -> list[int]:
    """Return the bfloat16 word of each code; 0 for the reserved code 0x80.

    Source: compression/types.h `SfpStream`, google/gemma.cpp@3ed403e.
    """
    # Codes below 64 have two mantissa bits, the others three: shifted to bfloat16's seven. The
    # constants are the exponents that codes 0 and 64 need (quant/sfp8.py derives them).
    positive = [0] + [(0x3400 + (c << 5)) if c < 64 else (0x3800 + (c << 4)) for c in range(1, 128)]
    return positive + [0] + [word | 0x8000 for word in positive[1:]]


def read_labels(keys: Mapping[str, Value]) -> tuple[str, frozenset[str]]:
    """Return the container of exact SFP8 values and the names of their tensors.

    `keys` are those of a GGUF. Returns ("", no names) if they label none.
    """
    names = find_data(keys, TENSORS_KEY, Array)
    if find_data(keys, FORMAT_KEY, str) != FORMAT or names is None:
        return "", frozenset()
    items = names.tolist() if names.item_type is ValueType.STRING else []
    return find_data(keys, CONTAINER_KEY, str) or "", frozenset(items)

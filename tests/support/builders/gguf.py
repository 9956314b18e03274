"""Bytes of GGUF files, by llama.cpp's docs/gguf.md, without the code under test.

Every way to break the format is a keyword argument, so that a test names exactly what is wrong with
its file.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# type tag and struct format; docs/gguf.md, enum gguf_metadata_value_type
SCALAR_TAGS = {
    "u8": (0, "<B"),
    "i8": (1, "<b"),
    "u16": (2, "<H"),
    "i16": (3, "<h"),
    "u32": (4, "<I"),
    "i32": (5, "<i"),
    "f32": (6, "<f"),
    "bool": (7, "<?"),
    "u64": (10, "<Q"),
    "i64": (11, "<q"),
    "f64": (12, "<d"),
}
STRING_TAG, ARRAY_TAG = 8, 9

F32, F16, Q4_0, Q4_1, Q8_0, Q4_K, Q5_K, Q6_K, I8, BF16 = 0, 1, 2, 3, 8, 12, 13, 14, 24, 30
# weights per block, bytes per block
BLOCKS = {
    F32: (1, 4),
    F16: (1, 2),
    Q4_0: (32, 18),
    Q4_1: (32, 20),
    Q8_0: (32, 34),
    Q4_K: (256, 144),
    Q5_K: (256, 176),
    Q6_K: (256, 210),
    I8: (1, 1),
    BF16: (1, 2),
}

Key = tuple[str, str, Any]
"""Name, type ("u32", "str", or an array: "[u32]", "[str]"), value."""

Tensor = tuple[str, int, Sequence[int], "bytes | None"]
"""Name, type id, ne (row length first), data (None: zeros)."""


def text(content: str | bytes) -> bytes:
    """Return a GGUF string."""
    data = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(data)) + data


def scalar(kind: str, content: Any) -> bytes:
    """Return one value without its tag."""
    return text(content) if kind == "str" else struct.pack(SCALAR_TAGS[kind][1], content)


def tag(kind: str) -> int:
    """Return the number of a type."""
    return STRING_TAG if kind == "str" else SCALAR_TAGS[kind][0]


def value(kind: str, content: Any) -> bytes:
    """Return a value, or for a `kind` in brackets an array of values, with its tag."""
    if kind.startswith("["):
        item = kind[1:-1]
        head = struct.pack("<IIQ", ARRAY_TAG, tag(item), len(content))
        return head + b"".join(scalar(item, v) for v in content)
    return struct.pack("<I", tag(kind)) + scalar(kind, content)


def key(name: str | bytes, kind: str, content: Any) -> bytes:
    """Return one key with its value."""
    return text(name) + value(kind, content)


def tensor_info(name: str | bytes, type_id: int, ne: Sequence[int], offset: int) -> bytes:
    """Return one tensor's entry; negative extents are written as two's complement."""
    extents = b"".join(struct.pack("<Q", n & (2**64 - 1)) for n in ne)
    return text(name) + struct.pack("<I", len(ne)) + extents + struct.pack("<IQ", type_id, offset)


def rope_table(n_pairs: int) -> bytes:
    """Return `rope_freqs` for heads of `n_pairs` pairs, of which Gemma 4 rotates a quarter."""
    n_rotated = n_pairs // 4
    return struct.pack(f"<{n_pairs}f", *[1.0] * n_rotated, *[1e30] * (n_pairs - n_rotated))


def n_bytes(type_id: int, ne: Sequence[int]) -> int:
    """Return the size of a tensor's data."""
    block, size = BLOCKS[type_id]
    count = 1
    for extent in ne:
        count *= extent
    return count // block * size


def build_gguf(
    keys: Sequence[Key | bytes] = (),
    tensors: Sequence[Tensor] = (),
    version: int = 3,
    alignment: int = 32,
    *,
    magic: bytes = b"GGUF",
    n_kv: int | None = None,
    n_tensors: int | None = None,
    offsets: Mapping[str, int] | None = None,
    infos: Sequence[bytes] | None = None,
    cut: int | None = None,
    trailing: bytes = b"",
    pad_end: bool = True,
) -> bytes:
    """Return a file: a good one with the defaults (an `alignment` needs its key, too).

    A key may be ready bytes. `n_kv` and `n_tensors` are the counts claimed; `offsets` replaces
    tensors' offsets; `infos` replaces all tensor entries; `cut` keeps only the first bytes
    (negative: drops the last).
    """
    parts = [k if isinstance(k, bytes) else key(*k) for k in keys]
    entries, data = [], b""
    for name, type_id, ne, content in tensors:
        offset = (offsets or {}).get(name, len(data))
        entries.append(tensor_info(name, type_id, ne, offset))
        content = bytes(n_bytes(type_id, ne)) if content is None else content
        last = len(entries) == len(tensors)
        data += content + (bytes(-len(content) % alignment) if pad_end or not last else b"")
    entries = list(infos) if infos is not None else entries
    head = magic + struct.pack(
        "<IQQ",
        version,
        len(entries) if n_tensors is None else n_tensors & (2**64 - 1),
        len(parts) if n_kv is None else n_kv & (2**64 - 1),
    )
    head += b"".join(parts) + b"".join(entries)
    if tensors:
        head += bytes(-len(head) % alignment)
    return (head + data + trailing)[:cut]


def write_gguf(path: Path, *args: Any, **kwargs: Any) -> Path:
    """Write `build_gguf(...)` to `path` and return it."""
    path.write_bytes(build_gguf(*args, **kwargs))
    return path


def gemma4_keys(
    n_layer: int = 5,
    n_embd: int = 64,
    n_vocab: int = 16,
    replace: Mapping[str, tuple[str, Any] | None] | None = None,
) -> list[Key]:
    """Return the keys of a small Gemma 4 network; `replace` changes, adds or (None) drops some."""
    keys: list[Key] = [
        ("general.architecture", "str", "gemma4"),
        ("general.name", "str", "small"),
        ("general.file_type", "u32", 0),
        ("gemma4.block_count", "u32", n_layer),
        ("gemma4.context_length", "u32", 1024),
        ("gemma4.embedding_length", "u32", n_embd),
        ("gemma4.feed_forward_length", "u32", 2 * n_embd),
        ("gemma4.attention.head_count", "u32", 4),
        ("gemma4.attention.head_count_kv", "u32", 1),
        ("gemma4.attention.key_length", "u32", 32),
        ("gemma4.attention.value_length", "u32", 32),
        ("gemma4.attention.key_length_swa", "u32", 16),
        ("gemma4.attention.value_length_swa", "u32", 16),
        ("gemma4.attention.layer_norm_rms_epsilon", "f32", 1e-6),
        ("gemma4.attention.sliding_window", "u32", 512),
        (
            "gemma4.attention.sliding_window_pattern",
            "[bool]",
            [(i + 1) % 5 != 0 for i in range(n_layer)],
        ),
        ("gemma4.attention.shared_kv_layers", "u32", 0),
        ("gemma4.embedding_length_per_layer_input", "u32", 0),
        ("gemma4.final_logit_softcapping", "f32", 30.0),
        ("tokenizer.ggml.model", "str", "gemma4"),
        ("tokenizer.ggml.tokens", "[str]", [f"t{i}" for i in range(n_vocab)]),
        ("tokenizer.ggml.bos_token_id", "u32", 2),
        ("tokenizer.ggml.eos_token_id", "u32", 1),
    ]
    replace = replace or {}
    keys = [k for k in keys if k[0] not in replace]
    return keys + [(name, *change) for name, change in replace.items() if change]

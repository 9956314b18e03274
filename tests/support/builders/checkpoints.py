"""Hugging Face folders for tests, written and edited without the code of `converters`."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.paths import TINY

Entry = tuple[str, list[int], bytes]
"""Type, shape and bytes of a tensor."""


def read_tensors(path: Path) -> dict[str, Entry]:
    """Return the tensors of a good safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    base = 8 + length
    return {
        name: (
            item["dtype"],
            item["shape"],
            data[base + item["data_offsets"][0] : base + item["data_offsets"][1]],
        )
        for name, item in header.items()
        if name != "__metadata__"
    }


def header_of(tensors: Mapping[str, Entry]) -> dict[str, Any]:
    """Return the header that describes `tensors` lying one after the other."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    return header


def write_safetensors(path: Path, tensors: Mapping[str, Entry], header: Any = None) -> Path:
    """Write `tensors`, under a header of the test's making if one is given."""
    text = json.dumps(header_of(tensors) if header is None else header).encode()
    path.write_bytes(
        struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())
    )
    return path


def copy_tiny(
    folder: Path, *, config: Mapping[str, Any] | None = None, text: Mapping[str, Any] | None = None
) -> Path:
    """Return a copy of the bundled checkpoint in `folder`, changed as `edit_json` does it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
        "README.md",
        "model.safetensors",
    ):
        shutil.copyfile(TINY / name, folder / name)
    edit_json(folder / "config.json", config or {}, text_config=text or {})
    return folder


def edit_json(path: Path, changes: Mapping[str, Any], **inner: Mapping[str, Any]) -> None:
    """Change keys of a JSON file; `...` as a value removes the key."""
    value = json.loads(path.read_text())
    for target, edits in ((value, changes), *((value[name], part) for name, part in inner.items())):
        for key, new in edits.items():
            if new is ...:
                target.pop(key, None)
            else:
                target[key] = new
    path.write_text(json.dumps(value))


def edit_tensors(folder: Path, **changes: Entry | None) -> None:
    """Replace, add or (None) drop tensors; `__` in a name stands for a dot."""
    path = folder / "model.safetensors"
    tensors = read_tensors(path)
    for key, entry in changes.items():
        name = key.replace("__", ".")
        if entry is None:
            del tensors[name]
        else:
            tensors[name] = entry
    write_safetensors(path, tensors)


def shard(folder: Path, n: int = 3) -> None:
    """Split model.safetensors of `folder` into `n` shards with an index."""
    path = folder / "model.safetensors"
    tensors = read_tensors(path)
    path.unlink()
    names = sorted(tensors)
    weight_map = {}
    for i in range(n):
        file = f"model-{i + 1:05d}-of-{n:05d}.safetensors"
        part = {name: tensors[name] for name in names[i::n]}
        write_safetensors(folder / file, part)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )


def bf16(values: Any) -> bytes:
    """Return numbers that BF16 holds exactly as its bytes."""
    return (np.asarray(values, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()

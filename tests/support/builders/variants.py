"""Tiny checkpoints of every Gemma 4 variant: transformers' configs, weights from a formula.

tests/oracle/compare_convert.py makes each with transformers' own classes and records names, shapes
and the output of llama.cpp's converter (tests/golden/variants/NAME.json). Here the same bytes are
written without torch and transformers, and without weights in the repository.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.builders.checkpoints import Entry, write_safetensors
from tests.support.builders.weights import uniform_values
from tests.support.paths import TESTS

GOLDEN = TESTS / "golden" / "variants"
N_VOCAB = 384
# id -> transformers' name of the token (NAME_token in tokenizer_config.json), its text
SPECIALS = {
    0: ("pad", "<pad>"),
    1: ("eos", "<eos>"),
    2: ("bos", "<bos>"),
    3: ("unk", "<unk>"),
    4: ("mask", "<mask>"),
    46: ("std", "<|tool>"),
    47: ("etd", "<tool|>"),
    48: ("stc", "<|tool_call>"),
    49: ("etc", "<tool_call|>"),
    50: ("str", "<|tool_response>"),
    51: ("etr", "<tool_response|>"),
    52: ("escape", '<|"|>'),
    98: ("think", "<|think|>"),
    100: ("soc", "<|channel>"),
    101: ("eoc", "<channel|>"),
    105: ("sot", "<|turn>"),
    106: ("eot", "<turn|>"),
    380: ("boi", "<|image>"),
    381: ("eoi", "<image|>"),
    382: ("image", "<|image|>"),
    383: ("audio", "<|audio|>"),
}


def numbers(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return weights for tensor `name`, computed from its name, with realistic magnitudes."""
    generator = np.random.PCG64(zlib.crc32(name.encode()))
    unit = uniform_values(generator, prod(shape)).astype(np.float32)
    if name.endswith(("_min", "_max")):  # bounds of a linear layer, some of them never set
        bound = 3 + np.abs(unit) if "q_proj" not in name else np.full_like(unit, np.inf)
        values = -bound if name.endswith("_min") else bound
    elif "norm" in name or "scalar" in name or name.endswith(("scale", "ln1.weight", "ln2.weight")):
        values = 1 + unit / 8
    else:
        values = unit / np.float32(np.sqrt(shape[-1] if shape else 1))
    return values.astype(np.float32).reshape(shape)


def entry(name: str, kind: str, shape: list[int]) -> Entry:
    """Return the tensor as a safetensors file of type `kind` holds it."""
    if kind == "I64":
        return kind, shape, np.arange(prod(shape), dtype="<i8").tobytes()
    values = numbers(name, tuple(shape))
    if kind == "BF16":
        return kind, shape, (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    return kind, shape, values.astype("<f2" if kind == "F16" else "<f4").tobytes()


def write_tokenizer(folder: Path) -> None:
    """Write a byte-fallback BPE of N_VOCAB tokens with Gemma 4's control tokens at their places."""
    texts = {i: text for i, (_, text) in SPECIALS.items()}
    fillers = iter(
        [f"<0x{byte:02X}>" for byte in range(256)]
        + ["▁", "\n", "th", "he", "the", "▁the", "in", "an"]
        + [chr(c) for c in range(97, 123)]
        + [f"<unused{i}>" for i in range(N_VOCAB)]
    )
    vocab = {texts[i] if i in texts else next(fillers): i for i in range(N_VOCAB)}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": i,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for i, text in texts.items()
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [["t", "h"], ["h", "e"], ["th", "e"], ["▁", "the"], ["i", "n"], ["a", "n"]],
        },
    }
    settings = {"tokenizer_class": "GemmaTokenizer", "padding_side": "left"}
    settings |= {f"{name}_token": text for name, text in SPECIALS.values()}
    (folder / "tokenizer.json").write_text(
        json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_variant(folder: Path, golden: Mapping[str, Any]) -> Path:
    """Return `folder` with the checkpoint that `golden` (a file of GOLDEN) describes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    for name, value in golden["files"].items():
        text = value if isinstance(value, str) else json.dumps(value)
        (folder / name).write_text(text, encoding="utf-8")
    tensors = {
        name: entry(name, kind, shape) for name, (kind, shape) in golden["checkpoint"].items()
    }
    shards = golden.get("shards", 1)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return folder
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(sorted(tensors.items())[i::shards])
        write_safetensors(folder / file, part)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def load(name: str) -> dict[str, Any]:
    """Return the golden of the variant called `name`."""
    golden: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return golden


def names() -> list[str]:
    """Return the variants that are recorded."""
    return sorted(path.stem for path in GOLDEN.glob("*.json"))

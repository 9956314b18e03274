"""GGUF files with the exact shapes of the published Gemma 4 networks, but without their weights.

    python -m tests.support.builders.real_shapes e2b q4_0 OUT.gguf    # sparse: all zeros
    python -m tests.support.builders.real_shapes e2b q4_0 OUT.gguf --weights random   # 3 GB

A sparse file is all that llama.cpp needs to plan memory (no_alloc): it makes llama.cpp itself the
oracle of g4's estimates. A file of random weights runs: every block is valid and scaled so that
values stay finite (matrices have a standard deviation of 1/sqrt(row), norms are near one), so its
speed and its memory are those of the real model, though it talks nonsense.

The vocabulary is the real one from ../shared/data where that exists, else a synthetic one of the
same size (262,144 tokens, 514,906 merges, the control tokens at their places). Names, shapes and
types come from g4's own inventory and recipes (llama.cpp refuses the file if one is wrong); the
bytes from tests/support/builders/gguf.py.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from g4cli.core.draft import DraftShape, draft_tensors
from g4cli.core.gguf import read_header
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.inventory import TensorDims, text_tensors
from g4cli.core.shape import Shape
from g4cli.quant.recipes import Recipe, choose_types
from tests.support.builders import gguf as builders
from tests.support.builders import shapes
from tests.support.paths import SHARED_DATA

SHARED_VOCAB = SHARED_DATA / "gemma4-vocab" / "ggml-vocab-gemma-4.gguf"
N_MERGES = 514_906
CONTROL = {
    0: "<pad>", 1: "<eos>", 2: "<bos>", 3: "<unk>", 4: "<mask>", 46: "<|tool>", 47: "<tool|>",
    48: "<|tool_call>", 49: "<tool_call|>", 50: "<|tool_response>", 51: "<tool_response|>",
    98: "<|think|>",
    100: "<|channel>", 101: "<channel|>", 105: "<|turn>", 106: "<turn|>",
}  # fmt: skip
FILE_TYPES = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q8_0": 7,
    "q4_k_m": 15,
    "q5_k_m": 17,
    "q6_k": 18,
    "bf16": 32,
}
CHUNK_BLOCKS = 1 << 16
Blocks = NDArray[np.uint8]
Encoder = Callable[[np.random.Generator, int, float], NDArray[Any]]


def real_vocabulary() -> tuple[bytes, int] | None:
    """Return the bytes of the real vocabulary's tokenizer keys and their number; None without."""
    if not SHARED_VOCAB.is_file():
        return None
    header = read_header(SHARED_VOCAB)
    data = SHARED_VOCAB.read_bytes()
    starts = [*header.key_offsets.values(), header.data_offset]
    names = list(header.keys)
    # The vocabulary file holds no tensors: its last key ends where its header does.
    starts[-1] = header.file_size
    parts = [
        data[starts[i] : starts[i + 1]] for i, n in enumerate(names) if n.startswith("tokenizer.")
    ]
    return b"".join(parts), len(parts)


def synthetic_vocabulary(n_vocab: int = 262_144) -> tuple[bytes, int]:
    """Return tokenizer keys for `n_vocab` made-up tokens, and the number of keys."""
    words = (
        "".join(letters) for n in range(1, 6) for letters in product("abcdefghijklmnop", repeat=n)
    )
    special = {**CONTROL, 107: "\n"}
    byte_tokens = {238 + b: f"<0x{b:02X}>" for b in range(256)}
    tokens, kinds = [], []
    for i in range(n_vocab):
        kind = 3 if i in CONTROL else 6 if i in byte_tokens else 1  # LLAMA_TOKEN_TYPE_*
        tokens.append(special.get(i) or byte_tokens.get(i) or next(words))
        kinds.append(kind)
    plain = [t for t, kind in zip(tokens, kinds, strict=True) if kind == 1 and t != "\n"]
    singles = [t for t in plain if len(t) == 1]
    pairs = (f"{left} {right}" for left in plain for right in singles)
    merges = list(islice(pairs, N_MERGES if n_vocab == 262_144 else 2 * n_vocab))
    keys: list[builders.Key] = [
        ("tokenizer.ggml.model", "str", "gemma4"),
        ("tokenizer.ggml.tokens", "[str]", tokens),
        ("tokenizer.ggml.scores", "[f32]", [-float(i) for i in range(n_vocab)]),
        ("tokenizer.ggml.token_type", "[i32]", kinds),
        ("tokenizer.ggml.merges", "[str]", merges),
        ("tokenizer.ggml.bos_token_id", "u32", 2),
        ("tokenizer.ggml.eos_token_id", "u32", 1),
        ("tokenizer.ggml.unknown_token_id", "u32", 3),
        ("tokenizer.ggml.padding_token_id", "u32", 0),
        ("tokenizer.ggml.add_space_prefix", "bool", False),
        ("tokenizer.ggml.add_bos_token", "bool", True),
        (
            "tokenizer.chat_template",
            "str",
            "{{ bos_token }}{% for m in messages %}"
            "{{ '<|turn>' + m['role'] + '\n' + m['content'] + '<turn|>\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|turn>model\n' }}{% endif %}",
        ),
    ]
    return b"".join(builders.key(*k) for k in keys), len(keys)


def _attention_keys(shape: Shape | DraftShape) -> list[builders.Key]:
    """Return the keys of norms, RoPE and head sizes, without the architecture in their names."""
    return [
        ("rope.freq_base", "f32", 1e6),
        ("rope.freq_base_swa", "f32", 1e4),
        ("attention.layer_norm_rms_epsilon", "f32", 1e-6),
        ("attention.key_length", "u32", shape.head_dim),
        ("attention.value_length", "u32", shape.head_dim),
        ("attention.key_length_swa", "u32", shape.head_dim_swa),
        ("attention.value_length_swa", "u32", shape.head_dim_swa),
        ("rope.dimension_count", "u32", shape.head_dim),
        ("rope.dimension_count_swa", "u32", shape.head_dim_swa),
    ]


def network_keys(name: str, shape: Shape, type_name: str) -> list[builders.Key]:
    """Return the keys that describe the network, as llama.cpp's converter writes them."""
    kv = shape.n_head_kv
    keys: list[builders.Key] = [
        ("general.architecture", "str", "gemma4"),
        ("general.type", "str", "model"),
        ("general.name", "str", f"{name} without weights"),
        ("gemma4.block_count", "u32", shape.n_layer),
        ("gemma4.context_length", "u32", shape.n_ctx_train),
        ("gemma4.embedding_length", "u32", shape.n_embd),
        _per_layer("gemma4.feed_forward_length", shape.n_ff),
        ("gemma4.attention.head_count", "u32", shape.n_head[0]),
        _per_layer("gemma4.attention.head_count_kv", kv),
        *((f"gemma4.{name}", kind, value) for name, kind, value in _attention_keys(shape)),
        ("gemma4.attention.sliding_window", "u32", shape.n_swa),
        ("gemma4.attention.sliding_window_pattern", "[bool]", list(shape.is_swa)),
        ("gemma4.attention.shared_kv_layers", "u32", shape.n_shared_kv),
        ("gemma4.embedding_length_per_layer_input", "u32", shape.n_embd_per_layer),
        ("gemma4.final_logit_softcapping", "f32", 30.0),
        ("general.file_type", "u32", FILE_TYPES[type_name]),
        ("general.quantization_version", "u32", 2),
    ]
    if name == "12b":
        keys.append(("tokenizer.ggml.suppress_tokens", "[i32]", [258_883, 258_882]))
    if shape.n_expert:
        keys += [
            ("gemma4.expert_count", "u32", shape.n_expert),
            ("gemma4.expert_used_count", "u32", shape.n_expert_used),
            ("gemma4.expert_feed_forward_length", "u32", shape.n_ff_expert),
        ]
    return keys


def draft_keys(target: Shape, shape: DraftShape, type_name: str) -> list[builders.Key]:
    """Return the keys of a draft model, as llama.cpp's converter writes them."""
    kv = {target.is_swa[i]: target.n_head_kv[i] for i in range(target.n_layer)}
    plain: list[tuple[str, str, Any]] = [
        ("block_count", "u32", shape.n_layer),
        ("context_length", "u32", target.n_ctx_train),
        ("embedding_length", "u32", shape.n_embd),
        ("feed_forward_length", "u32", shape.n_ff[0]),
        ("attention.head_count", "u32", shape.n_head[0]),
        ("attention.head_count_kv", "[i32]", [kv[swa] for swa in shape.is_swa]),
        *_attention_keys(shape),
        ("attention.sliding_window", "u32", target.n_swa),
        ("attention.sliding_window_pattern", "[bool]", list(shape.is_swa)),
        ("attention.shared_kv_layers", "u32", shape.n_layer),
        ("embedding_length_per_layer_input", "u32", 0),
        ("final_logit_softcapping", "f32", 30.0),
        ("embedding_length_out", "u32", shape.n_embd_out),
        ("nextn_predict_layers", "u32", shape.n_layer),
    ]
    return [
        ("general.architecture", "str", "gemma4-assistant"),
        ("general.type", "str", "model"),
        *((f"gemma4-assistant.{name}", kind, value) for name, kind, value in plain),
        ("general.file_type", "u32", FILE_TYPES[type_name]),
        ("general.quantization_version", "u32", 2),
    ]


def _per_layer(name: str, values: tuple[int, ...]) -> builders.Key:
    same = len(set(values)) == 1
    return (name, "u32", values[0]) if same else (name, "[i32]", list(values))


def build(
    path: Path,
    name: str,
    shape: Shape,
    type_name: str,
    *,
    weights: str = "sparse",
    vocabulary: tuple[bytes, int] | None = None,
    seed: int = 0,
) -> Path:
    """Write a file of `shape`, return its path.

    Without `vocabulary` it has the real one, or where that is absent, a synthetic one.
    """
    if vocabulary is None:
        vocabulary = real_vocabulary() if shape.n_vocab == 262_144 else None
        vocabulary = vocabulary or synthetic_vocabulary(shape.n_vocab)
    keys = network_keys(name, shape, type_name)
    return write(path, keys, vocabulary, text_tensors(shape), type_name, weights=weights, seed=seed)


def build_draft(
    path: Path,
    target: Shape,
    shape: DraftShape,
    type_name: str,
    *,
    weights: str = "sparse",
    vocabulary: tuple[bytes, int] | None = None,
    seed: int = 1,
) -> Path:
    """Write the draft model `shape` of the network `target`, return its path."""
    vocabulary = vocabulary or synthetic_vocabulary(shape.n_vocab)
    keys = draft_keys(target, shape, type_name)
    return write(
        path, keys, vocabulary, draft_tensors(shape), type_name, weights=weights, seed=seed
    )


def write(
    path: Path,
    keys: list[builders.Key],
    vocabulary: tuple[bytes, int],
    tensors: Sequence[TensorDims],
    type_name: str,
    *,
    weights: str,
    seed: int,
) -> Path:
    """Write a file of these keys and tensors, return its path."""
    n_kv = len(keys) + vocabulary[1]
    specs = choose_types(tensors, Recipe(type_name))
    infos, offset = [], 0
    for spec in specs:
        infos.append(builders.tensor_info(spec.name, spec.type.id, spec.shape, offset))
        offset += -(-spec.nbytes // 32) * 32
    head = builders.build_gguf([*keys, vocabulary[0]], infos=infos, n_kv=n_kv)
    head += bytes(-len(head) % 32)
    rng = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(head)
        if weights == "random":
            for spec in specs:
                for piece in random_tensor(rng, spec):
                    file.write(piece)
                file.write(bytes(-spec.nbytes % 32))
        file.truncate(len(head) + offset)
    return path


def random_tensor(rng: np.random.Generator, spec: TensorSpec) -> Iterator[bytes]:
    """Yield the bytes of a tensor of plausible random weights."""
    n_blocks = spec.nbytes // spec.type.block_bytes
    if spec.name.startswith("rope_freqs"):
        yield builders.rope_table(spec.shape[0])
        return
    if len(spec.shape) == 1:  # norms and scales: near one
        values = 1 + 0.02 * rng.standard_normal(spec.shape[0])
        if spec.name.endswith("layer_output_scale.weight"):
            values[:] = 0.5  # so that values do not grow from layer to layer
        yield values.astype("<f4").tobytes() if spec.type.name == "F32" else _bf16(values).tobytes()
        return
    std = 1 / math.sqrt(spec.shape[0])
    make = ENCODERS[spec.type.name]
    for start in range(0, n_blocks, CHUNK_BLOCKS):
        yield make(rng, min(CHUNK_BLOCKS, n_blocks - start), std).tobytes()


def _random_bytes(rng: np.random.Generator, *shape: int) -> Blocks:
    return np.frombuffer(rng.bytes(math.prod(shape)), dtype=np.uint8).reshape(shape)


def _half(value: float, n: int) -> Blocks:
    return np.tile(np.frombuffer(np.float16(value).tobytes(), dtype=np.uint8), (n, 1))


def _bf16(values: NDArray[Any]) -> NDArray[np.uint16]:
    return (values.astype("<f4").view("<u4") >> 16).astype("<u2")


# Random codes are uniform: their standard deviation is sqrt((4^bits - 1) / 12), which is 4.6 for 4
# bits, 9.2 for 5, 18.5 for 6 and 73.9 for 8.


def _q4_0(rng: np.random.Generator, n: int, std: float) -> Blocks:
    return np.hstack([_half(std / 4.6, n), _random_bytes(rng, n, 16)])


def _q5_0(rng: np.random.Generator, n: int, std: float) -> Blocks:
    return np.hstack([_half(std / 9.2, n), _random_bytes(rng, n, 20)])


def _q5_1(rng: np.random.Generator, n: int, std: float) -> Blocks:
    return np.hstack([_half(std / 9.2, n), _half(-15.5 * std / 9.2, n), _random_bytes(rng, n, 20)])


def _q8_0(rng: np.random.Generator, n: int, std: float) -> Blocks:
    return np.hstack([_half(std / 73.9, n), _random_bytes(rng, n, 32)])


def _q6_k(rng: np.random.Generator, n: int, std: float) -> Blocks:
    # ql[128], qh[64], scales[16] (int8), d: weight = d * scale * (-32..31)
    scales = np.full((n, 16), 16, dtype=np.uint8)
    return np.hstack([_random_bytes(rng, n, 192), scales, _half(std / (16 * 18.5), n)])


def _k_quant(n_bytes: int, middle: float, spread: float) -> Encoder:
    """Return a maker of Q4_K or Q5_K blocks: d, dmin, 12 bytes of scales and minima, weights.

    `middle` and `spread` are mean and standard deviation of the codes.
    """

    def make(rng: np.random.Generator, n: int, std: float) -> Blocks:
        # Six bits each: 16 | 1 << 6 in the first eight bytes makes all eight scales and minima 16.
        scales = np.tile(np.array([80] * 8 + [0] * 4, dtype=np.uint8), (n, 1))
        d = std / (16 * spread)
        return np.hstack(
            [_half(d, n), _half(middle * d, n), scales, _random_bytes(rng, n, n_bytes)]
        )

    return make


def _floats(dtype: str) -> Encoder:
    def make(rng: np.random.Generator, n: int, std: float) -> NDArray[Any]:
        values = (rng.standard_normal(n, dtype=np.float32) * std).astype("<f4")
        return _bf16(values) if dtype == "bf16" else values.astype(dtype)

    return make


ENCODERS: dict[str, Encoder] = {
    "F32": _floats("<f4"),
    "F16": _floats("<f2"),
    "BF16": _floats("bf16"),
    "Q4_0": _q4_0,
    "Q8_0": _q8_0,
    "Q4_K": _k_quant(128, 7.5, 4.6),
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q5_K": _k_quant(32 + 128, 15.5, 9.2),
    "Q6_K": _q6_k,
}


def main() -> None:
    """Build the file that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", choices=list(shapes.ALL))
    parser.add_argument("type", choices=list(FILE_TYPES))
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", choices=("sparse", "random"), default="sparse")
    args = parser.parse_args()
    path = build(args.out, args.model, shapes.ALL[args.model], args.type, weights=args.weights)
    print(f"{path}: {path.stat().st_size:,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()

"""Compare time and memory of g4 convert with llama.cpp's converter and quantizer.

    python tests/bench/bench_convert.py --folder DIR [--llama-cpp SRC --oracle PYTHON]
        [--vocab GGUF]

writes a checkpoint of E2B's real shape with random weights (4.65 billion parameters, 9.3 GB) under
DIR, converts it, prints a table and deletes it. Needs 25 GB of disk. SRC is a checkout of llama.cpp
and PYTHON an interpreter with torch, transformers and gguf; without them only g4 is measured. GGUF
is a file with Gemma 4's real vocabulary; without one a synthetic vocabulary of the same size is
used.

Peak anonymous memory is RssAnon of /proc, sampled. The pages of mapped files count in "resident"
only; the operating system can reclaim them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

N_LAYER, HIDDEN, N_FF, N_VOCAB, PLE = 35, 1536, 6144, 262_144, 256
NEEDED = 25 * 10**9
TEXT = {
    "num_hidden_layers": N_LAYER,
    "hidden_size": HIDDEN,
    "intermediate_size": N_FF,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "global_head_dim": 512,
    "sliding_window": 512,
    "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7,
    "num_kv_shared_layers": 20,
    "use_double_wide_mlp": True,
    "hidden_size_per_layer_input": PLE,
    "vocab_size": N_VOCAB,
    "vocab_size_per_layer_input": N_VOCAB,
    "max_position_embeddings": 131_072,
    "final_logit_softcapping": 30.0,
    "model_type": "gemma4_text",
    "moe_intermediate_size": None,
}


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Return the published tensors of E2B's text network, with the unused ones of shared layers."""
    yield "embed_tokens.weight", (N_VOCAB, HIDDEN)
    yield "embed_tokens_per_layer.weight", (N_VOCAB, N_LAYER * PLE)
    yield "per_layer_model_projection.weight", (N_LAYER * PLE, HIDDEN)
    yield "per_layer_projection_norm.weight", (PLE,)
    yield "norm.weight", (HIDDEN,)
    for i in range(N_LAYER):
        head, ff = (512 if i % 5 == 4 else 256), (N_FF if i < 15 else 2 * N_FF)
        layer = {
            "self_attn.q_proj.weight": (8 * head, HIDDEN),
            "self_attn.k_proj.weight": (head, HIDDEN),
            "self_attn.v_proj.weight": (head, HIDDEN),
            "self_attn.o_proj.weight": (HIDDEN, 8 * head),
            "self_attn.q_norm.weight": (head,),
            "self_attn.k_norm.weight": (head,),
            "mlp.gate_proj.weight": (ff, HIDDEN),
            "mlp.up_proj.weight": (ff, HIDDEN),
            "mlp.down_proj.weight": (HIDDEN, ff),
            "per_layer_input_gate.weight": (PLE, HIDDEN),
            "per_layer_projection.weight": (HIDDEN, PLE),
            "layer_scalar": (1,),
        }
        norms = (
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
            "post_per_layer_input_norm",
        )
        layer |= {f"{norm}.weight": (HIDDEN,) for norm in norms}
        yield from ((f"layers.{i}.{name}", shape) for name, shape in layer.items())


def write_checkpoint(folder: Path, vocab: Path | None) -> int:
    """Write the checkpoint; return its number of parameters."""
    folder.mkdir(parents=True)
    table = sorted(("model.language_model." + name, shape) for name, shape in shapes())
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in table:
        size = 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(0)
    # 32 MiB of weights, over and over: no encoder is faster for seeing them again.
    pool = (rng.standard_normal(1 << 24, np.float32) * 0.02).view(np.uint32) >> 16
    tile = pool.astype("<u2").tobytes()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape in table:
            left = 2 * prod(shape)
            while left:
                left -= file.write(tile[: min(left, len(tile))])
    config = {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "model_type": "gemma4",
        "text_config": TEXT,
        "vision_config": None,
        "audio_config": None,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder, vocab)
    return sum(prod(shape) for _, shape in table)


def write_tokenizer(folder: Path, vocab: Path | None) -> None:
    """Write tokenizer.json with the tokens and merges of `vocab`, or with as many made-up ones."""
    if vocab is not None:
        from gguf import GGUFReader

        fields = GGUFReader(vocab).fields
        tokens = fields["tokenizer.ggml.tokens"].contents()
        merges = [m.split(" ") for m in fields["tokenizer.ggml.merges"].contents()]
    else:
        tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"] + [
            f"t{i}" for i in range(N_VOCAB - 5)
        ]
        merges = [["t", str(i)] for i in range(500_000)]
    names = ("pad", "eos", "bos", "unk", "mask")
    added = [
        {
            "id": i,
            "content": tokens[i],
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for i in range(5)
    ]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<unk>",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {text: i for i, text in enumerate(tokens)},
        "merges": merges,
    }
    decoder = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    settings = {"tokenizer_class": "GemmaTokenizer"} | {f"{n}_token": f"<{n}>" for n in names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@dataclass
class Run:
    """One measured command."""

    seconds: float
    anonymous: int
    resident: int


def measure_command(command: list[str], target: Path) -> Run:
    """Run `command` until `target` is on the disk; return its time and its peaks of memory.

    g4 waits for the disk by itself; llama.cpp's tools leave gigabytes to be written after they have
    ended.
    """
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peaks = {"RssAnon": 0, "VmHWM": 0}

    def watch() -> None:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            for line in status.splitlines():
                key = line.split(":")[0]
                if key in peaks:
                    peaks[key] = max(peaks[key], int(line.split()[1]) * 1024)
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    _, err = process.communicate()
    thread.join()
    if process.returncode:
        raise SystemExit(f"{command}: {err.decode()[-2000:]}")
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    return Run(time.monotonic() - started, peaks["RssAnon"], peaks["VmHWM"])


QUANTIZE = (
    "import ctypes, sys, llama_cpp.llama_cpp as L\n"
    "p = L.llama_model_quantize_default_params(); p.ftype = 2; L.llama_backend_init()\n"
    "sys.exit(L.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(p)))"
)


def main() -> None:
    """Make the checkpoint, measure, print, delete."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--llama-cpp", type=Path)
    options.add_argument("--oracle", help="python with torch and transformers")
    options.add_argument("--vocab", type=Path)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--only", choices=("q4_0", "bf16"), help="one path alone")
    options.add_argument(
        "--keep", action="store_true", help="keep the checkpoint and the last Q4_0 file"
    )
    arguments = options.parse_args()
    base = arguments.folder / "bench-convert"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(arguments.folder).free
    if free < NEEDED:
        raise SystemExit(
            f"{arguments.folder}: {NEEDED / 1e9:.0f} GB needed, {free / 1e9:.1f} GB free"
        )
    try:
        run_all(base, arguments)
    finally:
        if not arguments.keep:
            shutil.rmtree(base, ignore_errors=True)


def run_all(base: Path, arguments: argparse.Namespace) -> None:
    """Measure every path, in turn, `rounds` times."""
    checkpoint = base / "gemma-4-E2B-shape"
    if not checkpoint.exists():
        print(f"{write_checkpoint(checkpoint, arguments.vocab):,} parameters", flush=True)
    g4 = [
        sys.executable,
        "-c",
        "from g4cli.cli.main import main; main()",
        "convert",
        str(checkpoint),
        "-f",
        "-q",
    ]
    rows: dict[str, list[Run]] = {}

    def add(name: str, command: list[str], target: Path) -> None:
        run = measure_command(command, target)
        rows.setdefault(name, []).append(run)
        size = target.stat().st_size
        print(
            f"{name:28} {run.seconds:7.1f} s  anonymous {run.anonymous / 1e9:6.2f} GB  resident "
            f"{run.resident / 1e9:6.2f} GB  file {size / 1e9:.2f} GB",
            flush=True,
        )

    for _ in range(arguments.rounds):
        target = base / "out.gguf"
        for kind in ("q4_0", "bf16"):
            if arguments.only in (None, kind):
                add(f"g4 to {kind.upper()}", [*g4, "-o", str(target), "--type", kind], target)
                target.unlink()
        if arguments.oracle and arguments.llama_cpp:
            script = [
                arguments.oracle,
                str(arguments.llama_cpp / "convert_hf_to_gguf.py"),
                str(checkpoint),
            ]
            add(
                "llama.cpp to BF16",
                [*script, "--outtype", "bf16", "--outfile", str(target)],
                target,
            )
            if arguments.only == "bf16":
                target.unlink()
                continue
            small = base / "small.gguf"
            add(
                "llama.cpp BF16 to Q4_0",
                [sys.executable, "-c", QUANTIZE, str(target), str(small)],
                small,
            )
            target.unlink()
            small.unlink()
    print_ratios(rows)


def print_ratios(rows: dict[str, list[Run]]) -> None:
    """Print the ratios of the best runs."""
    best = {name: min(run.seconds for run in runs) for name, runs in rows.items()}
    if {"g4 to Q4_0", "llama.cpp BF16 to Q4_0"} <= best.keys():
        two_steps = best["llama.cpp to BF16"] + best["llama.cpp BF16 to Q4_0"]
        print(
            f"checkpoint to Q4_0: {best['g4 to Q4_0'] / two_steps:.2f} of the peer's "
            f"{two_steps:.0f} s"
        )
    if {"g4 to BF16", "llama.cpp to BF16"} <= best.keys():
        print(
            f"checkpoint to BF16: {best['g4 to BF16'] / best['llama.cpp to BF16']:.2f} of the "
            "peer's"
        )
    worst = max(
        run.anonymous for name, runs in rows.items() if name.startswith("g4") for run in runs
    )
    print(f"g4's peak anonymous memory: {worst / 1e9:.2f} GB")


if __name__ == "__main__":
    main()

"""Measure time and memory of quantizing E2B's shape, compared with llama.cpp's quantizer.

    python tests/bench/bench_quant.py FOLDER [--layers N] [--vocab N] [--types q4_0,...]
        [--rounds N]

Writes a BF16 file of random weights (9.3 GB at full size) into FOLDER and deletes it at the end.
The two quantizers take turns, each in its own process. The ratios of wall time and of processor
time are printed (the latter varies less on a busy machine). g4's time includes the hash of the
source and the flush of the result, which llama.cpp omits; the second ratio adds a flush to
llama.cpp's time. Memory is the peak of anonymous pages (RssAnon), read 20 times a second. SFP8
speeds are those of one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from math import prod
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))

from g4cli.core.inventory import text_tensors  # noqa: E402
from g4cli.core.shape import Shape  # noqa: E402
from tests.support.builders.gguf import (  # noqa: E402
    BF16,
    F32,
    gemma4_keys,
    key,
    n_bytes,
    tensor_info,
)
from tests.support.builders.shapes import E2B  # noqa: E402
from tests.support.run.llama_quantize import FTYPES  # noqa: E402

POOL = 1 << 26


def write_model(path: Path, shape: Shape) -> int:
    """Write a file of `shape` with normal weights, and return how many weights it has."""
    rng = np.random.default_rng(0)
    pool = (rng.standard_normal(POOL, np.float32) * np.float32(0.02)).view(np.uint32) >> 16
    words = pool.astype(np.uint16)
    entries, places, offset = [], [], 0
    for tensor in text_tensors(shape):
        plain = len(tensor.shape) < 2
        kind = F32 if plain else BF16
        entries.append(tensor_info(tensor.name, kind, tensor.shape, offset))
        size = n_bytes(kind, tensor.shape)
        places.append((size, plain))
        offset += size + -size % 32
    replace = {
        "gemma4.attention.head_count": ("u32", shape.n_head[0]),
        "gemma4.attention.head_count_kv": ("u32", shape.n_head_kv[0]),
        "gemma4.embedding_length_per_layer_input": ("u32", shape.n_embd_per_layer),
        "gemma4.feed_forward_length": ("[u32]", list(shape.n_ff)),
    }
    keys = [key(*k) for k in gemma4_keys(shape.n_layer, shape.n_embd, 16, replace=replace)]
    head = (
        b"GGUF"
        + np.array([3], "<u4").tobytes()
        + np.array([len(entries), len(keys)], "<u8").tobytes()
    )
    head += b"".join(keys) + b"".join(entries)
    with path.open("wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for index, (size, plain) in enumerate(places):
            left, at = size, index * 977 % 4096
            while left:
                piece = np.ones(left // 4, np.float32) if plain else words[at : at + left // 2]
                file.write(piece.tobytes())
                left -= piece.nbytes
                at = 0
            file.write(bytes(-size % 32))
    return sum(prod(t.shape) for t in text_tensors(shape))


def run_watched(command: list[str], stdin: str | None = None) -> tuple[float, float, int]:
    """Return wall seconds, processor seconds and peak anonymous memory (bytes) of a command."""
    started, peak, before = time.perf_counter(), 0, resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        command,
        cwd=TESTS.parent,
        stdin=subprocess.PIPE if stdin else None,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    if stdin and process.stdin:
        process.stdin.write(stdin)
        process.stdin.close()
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, int(status.partition("RssAnon:")[2].split()[0]) * 1024)
        except (OSError, IndexError, ValueError):
            pass
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{command} exited with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu, peak


def compare_speed(source: Path, type_name: str, rounds: int, threads: int) -> None:
    """Run both quantizers alternately and print one line."""
    target = source.with_name("bench-out.gguf")
    g4 = [sys.executable, "-c", "from g4cli.cli.main import main; main()", "quantize"]
    g4 += [
        str(source),
        str(target),
        "--type",
        type_name,
        "--force",
        "--quiet",
        "--threads",
        str(threads),
    ]
    request = {"source": source, "target": target, "type": type_name, "threads": threads}
    job = json.dumps([{k: str(v) if isinstance(v, Path) else v for k, v in request.items()}])
    llama = [sys.executable, "-m", "tests.support.run.llama_quantize"]
    ours: list[tuple[float, ...]] = []
    theirs: list[tuple[float, ...]] = []
    peaks = [0, 0]
    for _ in range(rounds):
        for index, (times, command, text) in enumerate(((theirs, llama, job), (ours, g4, None))):
            if type_name == "sfp8" and index == 0:
                continue
            seconds, cpu, peak = run_watched(command, text)
            started = time.perf_counter()
            with target.open("rb+") as file:
                os.fsync(file.fileno())
            times.append((seconds, cpu, seconds + time.perf_counter() - started))
            peaks[index] = max(peaks[index], peak)
            target.unlink()
    mine, cpu, _ = (statistics.median(column) for column in zip(*ours, strict=True))
    line = f"{type_name:7} g4 {mine:6.1f} s wall {cpu:6.1f} s cpu {peaks[1] / 2**20:5.0f} MiB"
    if theirs:
        other, other_cpu, synced = (
            statistics.median(column) for column in zip(*theirs, strict=True)
        )
        line += f"   llama.cpp {other:6.1f} s wall {synced:6.1f} s on disk {other_cpu:6.1f} s cpu"
        line += f" {peaks[0] / 2**20:5.0f} MiB   ratio {mine / other:.2f} wall"
        line += f" {mine / synced:.2f} on disk {cpu / other_cpu:.2f} cpu"
    print(line, flush=True)


def sfp8_rates() -> None:
    """Print one thread's speed of the SFP8 coder, on blocks as the encoder cuts them."""
    from g4cli.quant import sfp8
    from g4cli.quant.encode import BLOCK_WEIGHTS

    values = np.random.default_rng(1).standard_normal(1 << 25, np.float32) * np.float32(0.02)
    words = (values.view(np.uint32) >> 16).astype(np.uint16)
    for what, data, code in (
        ("encode BF16", words, lambda block: sfp8.encode_sfp8(block, -3)),
        ("encode F32", values, lambda block: sfp8.encode_sfp8(block, -3)),
        ("decode", sfp8.encode_sfp8(words, -3).codes, lambda block: sfp8.decode_bf16(block, -3)),
    ):
        best = 1e9
        for _ in range(3):
            started = time.perf_counter()
            for at in range(0, len(data), BLOCK_WEIGHTS):
                code(data[at : at + BLOCK_WEIGHTS])
            best = min(best, time.perf_counter() - started)
        print(f"sfp8 {what:12} {len(data) / best / 1e6:6.0f} million weights/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=E2B.n_layer)
    parser.add_argument("--vocab", type=int, default=E2B.n_vocab)
    parser.add_argument("--types", default="q4_0,q8_0,q4_k_m,bf16,sfp8")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    n = args.layers
    shape = dataclasses.replace(
        E2B,
        n_layer=n,
        n_vocab=args.vocab,
        n_head=E2B.n_head[:n],
        n_head_kv=E2B.n_head_kv[:n],
        n_ff=E2B.n_ff[-n:],
        is_swa=E2B.is_swa[:n],
    )
    source = args.folder.resolve() / "bench-bf16.gguf"
    try:
        weights = write_model(source, shape)
        print(
            f"{n} layers of E2B, {weights / 1e9:.2f} billion weights, {args.threads} threads",
            flush=True,
        )
        sfp8_rates()
        for name in args.types.split(","):
            assert name in (*FTYPES, "sfp8")
            compare_speed(source, name, args.rounds, args.threads)
    finally:
        source.unlink(missing_ok=True)
        source.with_name("bench-out.gguf").unlink(missing_ok=True)


if __name__ == "__main__":
    main()

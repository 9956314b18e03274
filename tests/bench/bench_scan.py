"""Measure how fast `g4 doctor --deep` reads weights of each type, on one core with a warm cache.

python tests/bench/bench_scan.py [MEGABYTES]
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from g4cli.core.gguf import read_header
from g4cli.doctor.facts.tensor_scan import scan_tensor
from tests.support.builders.gguf import build_gguf

# type id, weights and bytes per block, places of the scales
KINDS = (("F32", 0, 1, 4), ("BF16", 30, 1, 2), ("Q4_0", 2, 32, 18), ("Q8_0", 8, 32, 34),
         ("Q4_K", 12, 256, 144),
         ("Q6_K", 14, 256, 210))  # fmt: skip
SCALES = {"Q4_0": (0,), "Q8_0": (0,), "Q4_K": (0, 2), "Q6_K": (208,)}


def main() -> None:
    """Print one row per type."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        for name, kind, weights, size in KINDS:
            rows = megabytes * 10**6 // (size * (4096 // weights))
            blocks = rng.integers(0, 256, (rows * (4096 // weights), size), dtype=np.uint8)
            for place in SCALES.get(name, ()):
                blocks[:, place : place + 2] = np.array([0.01], "<f2").view(np.uint8)
            if name in ("F32", "BF16"):
                blocks[:, -2:] &= 0x3F
            path.write_bytes(build_gguf([], [("w", kind, [4096, rows], blocks.tobytes())]))
            header = read_header(path)
            best = 0.0
            for _ in range(3):
                started = time.process_time()
                scan_tensor(header, header.tensors["w"], full=True)
                best = max(best, header.tensors["w"].nbytes / (time.process_time() - started))
            print(f"{name:5} {best / 1e9:5.2f} GB/s a core", flush=True)
    print(
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB (the file "
        "included)"
    )


if __name__ == "__main__":
    main()

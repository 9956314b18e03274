"""Record what llama-imatrix makes of small networks, and compare g4's files with it byte by byte.

    python tests/oracle/record_imatrix.py BIN

BIN is the folder of llama-imatrix and llama-quantize, compiled from the sources of the pinned
llama.cpp with the flags of llama-cpp-python's build. The files are those of tests/golden/imatrix.
Both programs then read g4's file too: llama-imatrix shows statistics of it, and llama-quantize
makes the same tensors from it as `g4 quantize` does.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from g4cli.cli.main import run  # noqa: E402
from g4cli.core.gguf import iter_tensor, read_header  # noqa: E402
from tests.support.builders.small_networks import IMATRIX_NETWORKS, write_small_network  # noqa: E402

GOLDEN: Final = ROOT / "tests" / "golden" / "imatrix"
N_CTX: Final = 128


def main(tools: Path) -> int:
    """Record all networks; return 1 if g4 differs from llama.cpp anywhere."""
    faults = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for network in IMATRIX_NETWORKS:
            model = write_small_network(folder, network)
            theirs, ours = GOLDEN / f"{network}.gguf", folder / "ours.gguf"
            _run(tools / "llama-imatrix", "-m", model, "-f", "text.txt", "-o", theirs, "-c", N_CTX,
                 "--no-ppl", "-t", "1")  # fmt: skip
            run(["imatrix", str(model), "--text", str(GOLDEN / "text.txt"), "--raw", "--quiet",
                 "-o", str(ours), "-c", str(N_CTX), "--force"])  # fmt: skip
            if _tensors(ours) != _tensors(theirs):
                faults.append(f"{network}: other sums")
            _run(tools / "llama-imatrix", "-m", model, "--in-file", ours, "--show-statistics")
            _run(
                tools / "llama-quantize", "--imatrix", ours, model, folder / "llama.gguf", "q3_k_m"
            )
            run(["quantize", str(model), str(folder / "g4.gguf"), "-t", "q3_k_m", "--force",
                 "--imatrix", str(ours), "--quiet"])  # fmt: skip
            if _tensors(folder / "llama.gguf") != _tensors(folder / "g4.gguf"):
                faults.append(f"{network}: other weights")
    print("\n".join(faults) or "g4's importance matrices are those of llama-imatrix")
    return int(bool(faults))


def _run(*words: object) -> None:
    subprocess.run([str(word) for word in words], cwd=GOLDEN, check=True, capture_output=True)


def _tensors(path: Path) -> dict[str, bytes]:
    header = read_header(path)
    return {t.name: b"".join(iter_tensor(header, t)) for t in header.tensors.values()}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))

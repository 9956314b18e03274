"""Compare g4's quantizer with llama.cpp's for every type.

    python tests/oracle/compare_quant.py [FOLDER]

Types, order, keys and bytes must be equal for each type, as mixture, with --pure and with an
importance matrix. The files are the bundled network, one with E2B's architecture, experts, rows
that do not divide into blocks, and a layer of each published network with fewer rows. Prints one
line for all types with the same result; exits with 1 on any difference.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))

from g4cli.core.gguf import read_header  # noqa: E402
from g4cli.core.inventory import text_tensors  # noqa: E402
from g4cli.quant.file import quantize_file  # noqa: E402
from g4cli.quant.imatrix import read_imatrix  # noqa: E402
from g4cli.quant.recipes import TYPES, Recipe  # noqa: E402
from tests.integration.quant.test_imatrix import as_gguf, sums_for  # noqa: E402
from tests.support.builders.gguf import BF16, F32, gemma4_keys, write_gguf  # noqa: E402
from tests.support.builders.shapes import PUBLISHED  # noqa: E402
from tests.support.builders.tiny_file import build_tiny  # noqa: E402
from tests.support.builders.weights import KINDS, bf16, write_network  # noqa: E402
from tests.support.run.llama_quantize import expect  # noqa: E402

VARIANTS = ("mixture", "pure", "imatrix")


def real_layer(path: Path, name: str) -> Path:
    """Write the first layer of a published network at its real width, with random weights."""
    shape = dataclasses.replace(PUBLISHED[name], n_layer=1, n_vocab=64)
    rng = np.random.default_rng(2)
    tensors = []
    for tensor in text_tensors(shape):
        # Rows keep their length; heads are cut alike, so that their ratio, which a rule asks for,
        # stays.
        cut = (lambda n: n // 32) if ".attn_" in tensor.name else (lambda n: min(n, 64))
        dims = tuple(
            n if i == 0 else cut(n) if i == 1 else min(n, 16) for i, n in enumerate(tensor.shape)
        )
        plain = len(dims) < 2 or "ffn_gate_inp" in tensor.name
        values = rng.standard_normal(int(np.prod(dims)), np.float32) * np.float32(0.02)
        data = values.tobytes() if plain else bf16(values).tobytes()
        tensors.append((tensor.name, F32 if plain else BF16, dims, data))
    replace = {
        "gemma4.attention.head_count": ("u32", shape.n_head[0]),
        "gemma4.attention.head_count_kv": ("u32", shape.n_head_kv[0]),
        "gemma4.embedding_length_per_layer_input": ("u32", shape.n_embd_per_layer),
        "gemma4.expert_count": ("u32", shape.n_expert),
        "gemma4.expert_used_count": ("u32", shape.n_expert_used),
    }
    keys = gemma4_keys(1, shape.n_embd, 16, replace={k: v for k, v in replace.items() if v[1]})
    return write_gguf(path, keys, tensors)


def write_sources(folder: Path) -> Iterator[Path]:
    """Yield the files to quantize."""
    tiny = folder / "tiny.gguf"
    tiny.write_bytes(build_tiny())
    yield tiny
    for kind, options in KINDS.items():
        yield write_network(folder / f"{kind}.gguf", **options)
    for name in PUBLISHED:
        yield real_layer(folder / f"{name}.gguf", name)


def is_equal(ours: Path, theirs: Path) -> bool:
    """Return whether types, order, keys and bytes are the same, g4's and llama-quantize's own keys
    apart.
    """
    a, b = read_header(ours), read_header(theirs)
    keys = [(k, v) for k, v in a.keys.items() if not k.startswith(("g4.", "quantize.imatrix."))]
    same_tensors = [(t.name, t.type, t.shape) for t in a.tensors.values()] == [
        (t.name, t.type, t.shape) for t in b.tensors.values()
    ]
    return (
        same_tensors
        and keys == list(b.keys.items())
        and ours.read_bytes()[a.data_offset :] == theirs.read_bytes()[b.data_offset :]
    )


def compare_types(folder: Path) -> int:
    """Print the matrix and return how many cells differ."""
    names = [t for t in TYPES if t != "sfp8"]
    verdicts: dict[tuple[str, str], list[str]] = {}
    for source in write_sources(folder):
        experts = max(
            (t.shape[2] for t in read_header(source).tensors.values() if len(t.shape) > 2),
            default=1,
        )
        (folder / "imatrix.gguf").write_bytes(as_gguf(sums_for(source), n_expert=experts))
        matrix = read_imatrix(folder / "imatrix.gguf")
        weights = {n: v.tolist() for n, v in matrix.weights.items()}
        (folder / "imatrix.json").write_text(json.dumps(weights))
        pairs = [(name, variant) for name in names for variant in VARIANTS]
        jobs = [
            {
                "source": str(source),
                "target": str(folder / f"theirs-{name}-{variant}.gguf"),
                "type": name,
                "pure": variant == "pure",
                "imatrix": str(folder / "imatrix.json") if variant == "imatrix" else None,
            }
            for name, variant in pairs
        ]
        for (name, variant), code in zip(pairs, expect(jobs), strict=True):
            theirs, ours = folder / f"theirs-{name}-{variant}.gguf", folder / "ours.gguf"
            recipe = Recipe(name, pure=variant == "pure", has_imatrix=variant == "imatrix")
            used = matrix if variant == "imatrix" else None
            quantize_file(source, ours, recipe=recipe, imatrix=used, force=True)
            good = code == 0 and is_equal(ours, theirs)
            verdicts.setdefault((name, variant), []).append("=" if good else source.stem)
            theirs.unlink()
        source.unlink()
    rows: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        rows.setdefault(tuple(_cell(verdicts[name, variant]) for variant in VARIANTS), []).append(
            name
        )
    print(f"| types | {' | '.join(VARIANTS)} |\n|---{len(VARIANTS) * '|---'}|")
    for cells, alike in rows.items():
        print(f"| {' '.join(alike)} | {' | '.join(cells)} |")
    return sum(verdict != "=" for found in verdicts.values() for verdict in found)


def _cell(found: list[str]) -> str:
    """Return how many files of a type are equal, and the names of the others."""
    bad = [source for source in found if source != "="]
    return f"{len(found) - len(bad)} of {len(found)}" + (f" ({', '.join(bad)})" if bad else "")


def main() -> int:
    """Run in FOLDER or a temporary one."""
    if len(sys.argv) > 1:
        return bool(compare_types(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as folder:
        return bool(compare_types(Path(folder)))


if __name__ == "__main__":
    sys.exit(main())

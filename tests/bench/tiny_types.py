"""Measure the bundled network in every type: size, errors of weights and predictions, answers.

    python tests/bench/tiny_types.py [--limit N] [--types q4_0,...]

Predictions on the network's own corpus are compared with BF16. An answer is right if greedy
decoding gives it word for word. The network is small and half of it is embeddings: the order of the
types is the same for large networks, their distances are not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))

from g4cli.prompt.messages import Message  # noqa: E402
from g4cli.quant.expand import make_runnable  # noqa: E402
from g4cli.quant.file import quantize_file  # noqa: E402
from g4cli.quant.metrics import diff_files  # noqa: E402
from g4cli.quant.recipes import TYPES, Recipe  # noqa: E402
from g4cli.runtime.engine.options import ModelOptions  # noqa: E402
from g4cli.runtime.measure.evaluate import evaluate_model  # noqa: E402
from g4cli.runtime.measure.messages import RunEvaluation  # noqa: E402
from tests.support.builders.tiny_file import TINY, build_tiny  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--types", default=",".join(t for t in TYPES if t != "f32"))
    args = parser.parse_args()
    lines = (TINY / "corpus.jsonl").read_text().splitlines()
    chats = [json.loads(line)["messages"] for line in lines][: args.limit or len(lines)]
    conversations = [
        tuple(Message(m["role"], m["content"], m.get("thought", "")) for m in c) for c in chats
    ]
    print(f"{'type':8} {'KiB':>7} {'SNR dB':>7} {'KL, 1e-3 nats':>16} {'same 1st':>9} {'right':>9}")
    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "tiny.gguf"
        base.write_bytes(build_tiny())
        for name in args.types.split(","):
            target = base if name == "bf16" else Path(place) / f"tiny-{name}.gguf"
            if target != base:
                quantize_file(base, target, recipe=Recipe(name))
            snr = diff_files(base, target).total.snr_db
            path, options = make_runnable(target, Path(place)), ModelOptions(use_extra_bufts=False)
            ran = evaluate_model(RunEvaluation(path, options, tuple(conversations), base, 1))
            score = ran.score
            kl = f"{1e3 * score.kl_mean:.3f} ± {1e3 * score.kl_error:.3f}"
            print(
                f"{name:8} {target.stat().st_size / 1024:7.0f} {snr:7.1f} {kl:>16} "
                f"{score.same_top1:9.2%} "
                f"{ran.n_exact:4}/{ran.n_documents}",
                flush=True,
            )


if __name__ == "__main__":
    main()

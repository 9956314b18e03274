"""Run the loop detector on answers of damaged copies of `tiny`, which loop by themselves.

    python tests/bench/loops_of_tiny.py

The end-of-turn tokens are forbidden, so that only the network decides. Greedy, then at a low
temperature, which turns exact loops into noisy ones.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from g4cli.loops.detector import Loop, LoopDetector
from g4cli.runtime.probes.doctor_child import Session
from tests.support.builders.damage import changed, dashes
from tests.support.builders.tiny_file import build_tiny

COPIES: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("as it is", lambda d: d),
    ("attention zeroed", changed("attn_output.weight", np.zeros_like)),
    ("all keys alike", changed("attn_q_norm.weight", np.zeros_like)),
    ("layer scales x 1.5", changed("layer_output_scale.weight", lambda v: v * 1.5)),
    ("feed-forward zeroed", changed("ffn_down.weight", np.zeros_like)),
    ("dashes", dashes),
)
PROMPTS = (
    "Hello",
    "Write a poem about the sea",
    "1 2 3 4 5 6 7 8",
    "ab ab ab ab ab",
    "Füße, naïve, 日本",
)


def generate_answer(
    session: Session, prompt: str, temperature: float, rng: np.random.Generator
) -> tuple[int, Loop | None, str]:
    """Return the number of tokens, the loop that stopped them (None: the limit), and their end."""
    session.clear_memory()
    feed = session.tokenize(f"<bos><|turn>user\n{prompt}<turn|>\n<|turn>model\n")
    digits = {ids[0]: v for v in range(10) if len(ids := session.tokenize(str(v))) == 1}
    detector, tokens = LoopDetector(digits=digits), list[int]()
    for _ in range(900):
        logits = session.logits_after(feed)
        logits[[1, 50, 106]] = -1e9
        token = int(logits.argmax())
        if temperature:
            weights = np.exp((logits - logits.max()).astype(np.float64) / temperature)
            token = int(rng.choice(len(weights), p=weights / weights.sum()))
        tokens.append(token)
        feed = [token]
        loop = detector.feed(token)
        if loop is not None:
            break
    else:
        loop = None
    end = b"".join(session.token_bytes(t) for t in tokens[-24:]).decode("utf-8", "replace")
    return len(tokens), loop, end


def main() -> None:
    """Print one row per answer."""
    good = build_tiny()
    with tempfile.TemporaryDirectory() as folder:
        for name, make in COPIES:
            path = Path(folder) / "model.gguf"
            path.write_bytes(make(good))
            session, rng = Session(str(path), {}), np.random.default_rng(1)
            for prompt in PROMPTS:
                for temperature in (0.0, 0.2):
                    n, loop, end = generate_answer(session, prompt, temperature, rng)
                    said = (
                        f"{loop.kind}, period {loop.period}, from token {loop.onset}"
                        if loop
                        else "no loop"
                    )
                    print(
                        f"| {name} | {prompt} | {temperature} | {n} | {said} | {end[-40:]!r} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()

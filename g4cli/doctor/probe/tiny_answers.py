"""What g4 knows of the bundled model: its vocabulary, and questions that it answers."""

from __future__ import annotations

import hashlib
import json
from functools import cache

from g4cli.core.gguf_values import ValueType, array
from g4cli.core.paths import tiny_dir


@cache
def vocabulary_hashes() -> dict[str, str] | None:
    """Return sha256 of the raw arrays that a GGUF of `tiny` holds, or None without the checkpoint."""
    path = tiny_dir() / "tokenizer.json"
    if not path.is_file():
        return None
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return {
        name: hashlib.sha256(array(ValueType.STRING, items).data.raw()).hexdigest()  # type: ignore[union-attr]
        for name, items in (("tokens", tokens), ("merges", merges))
    }


@cache
def questions(count: int = 24) -> tuple[tuple[str, str], ...]:
    """Return questions and answers that `tiny` was trained on, spread over its corpus."""
    path = tiny_dir() / "corpus.jsonl"
    if not path.is_file():
        return ()
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        messages = json.loads(line)["messages"] if line.strip() else []
        if len(messages) == 2 and not messages[1].get("thought"):
            pairs.append((messages[0]["content"], messages[1]["content"]))
    step = max(1, len(pairs) // count)
    return tuple(pairs[::step][:count])

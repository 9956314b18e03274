"""Questions that the bundled model `tiny` was trained on, with their answers."""

from __future__ import annotations

import json
from functools import cache

from g4cli.core.paths import tiny_dir


@cache
def read_tiny_questions(count: int = 24) -> tuple[tuple[str, str], ...]:
    """Return at most `count` pairs (question, answer), spread over what `tiny` was trained on.

    () if its files are not installed.
    """
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

"""A comparison as `g4 compare --json` gives it, for tests of what must not pass through a page."""

from __future__ import annotations

from typing import Any

EVIL = '"><script>alert(1)</script><img src=http://e.example/x onerror=alert(1)>\u202e</pre></p>'
DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><rect width="4" height="4"/></svg>'
)


def make_share(count: int, total: int) -> dict[str, Any]:
    """Return a share as the document has it; its bounds are made up."""
    return {"count": count, "total": total, "share": count / total, "low": 0.1, "high": 0.9}


def make_document(text: str) -> dict[str, Any]:
    """Return a comparison in which every text that is not g4's own is `text`."""
    finding = {
        "rule": text, "kind": "xml", "line": 1, "column": 1, "message": text,
        "repaired": True, "repair": text,
    }  # fmt: skip
    drawing = {
        "works": True, "flawless": False, "repaired": True, "svg": DRAWING + text,
        "findings": [finding], "stages": [{"name": "found", "passed": True, "detail": ""}],
    }  # fmt: skip
    answer = {
        "model": text, "sample": 0, "seed": 1, "text": text, "thought": text,
        "finish_reason": "stop", "prompt_tokens": 1, "reused_tokens": 0, "completion_tokens": 2,
        "first_s": 0.1, "total_s": 0.2, "prompt_tps": 1.0, "decode_tps": 2.0, "loop": None,
        "correct": True, "valid": False, "problem": text, "drawing": None, "at": 0,
    }  # fmt: skip
    model = {
        "label": text,
        "problem": text,
        "settings": {"system": text},
        "facts": {"identity": text, "served_as": text, "file_type": text, "sampling": {"a": text}},
        "summary": {
            "asked": 2,
            "answered": 2,
            "shares": {"correct": make_share(1, 2)},
            "faults": [{"rule": text, "kind": text, "message": text, "drawings": 1, "repaired": 1}],
            "first_s": 0.1,
            "decode_tps": 2.0,
            "completion_tokens": 2.0,
        },
        "quality": {
            "bytes": 1 << 30, "perplexity": 5.0, "perplexity_error": 0.1, "pp128_tps": 9.0,
            "tg32_tps": 3.0, "peak_bytes": 1 << 30,
        },
        "wins": make_share(1, 2) | {"ties": 1},
    }  # fmt: skip
    return {
        "run": {
            "command": text, "samples": 1, "complete": False, "results": text, "written_at": 0,
            "g4": "0", "llama_cpp_python": "0", "machine": text, "judge": text,
            "judge_identity": text, "text": text,
        },
        "models": [model],
        "prompts": [
            {"id": text, "kind": "svg", "prompt": text, "expected": text,
             "answers": [answer, answer | {"drawing": drawing}]},
        ],
        "opinions": [
            {"prompt": text, "sample": 0, "a": text, "b": text, "first": text, "second": text,
             "winner": text},
        ],
    }  # fmt: skip

"""Run the probes in a child process: what a file does to llama.cpp cannot hurt g4.

The child is `python -m g4cli.runtime.probe`; it reads one JSON request from standard input and answers with
JSON lines on standard output, flushed one by one, so that a crash keeps what was seen before it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

# Questions whose answers any Gemma 4 knows, in chat form, and a word of the right answer.
QUESTIONS: Final = (
    ("What is the capital of France?", "paris"),
    ("What is 2 + 2?", "4"),
    ("Repeat this word: zebra", "zebra"),
)
N_TOKENS: Final = 32
TIMEOUT_S: Final = 300.0
# Ways to run the same network: where one of them answers otherwise, the engine is at fault, not the file.
VARIANTS: Final = (
    # name, options of the child
    ("flash attention off", {"flash_attn": 0}),
    ("batches of 32", {"n_ubatch": 32}),
    ("repacked weights", {"use_extra_bufts": True}),
    ("GPU", {"n_gpu_layers": 999}),
)
# Texts for the real vocabulary of 262,144 tokens and their ids: reference of the tokenizer's traps.
GOLDEN: Final = (
    ("---\n", (7243, 107)),
    ("a\n\nb", (236746, 108, 236763)),
    ("Hello\n\n\nworld", (9259, 109, 12392)),
    ("<|turn>user\nHi<turn|>\n<|turn>model\n", (105, 2364, 107, 10979, 106, 107, 105, 4368, 107)),
    (" discards", (2243, 2206)),
)
# Texts for any vocabulary of Gemma 4's make: the control tokens keep their ids, ...
CONTROL_TEXTS: Final = (
    ("<|turn>", (105,)),
    ("<turn|>", (106,)),
    ("<bos>", (2,)),
)
# ... and what goes in comes out.
ROUND_TRIPS: Final = (
    "Hello, world!",
    "a  b\n\nc",
    "x = [1, 2];\n\ty += 0.5",
    "naïve café ☕",
    "</s> is text",
)
# token, ends an answer
ENDS: Final = ((106, True), (1, True), (107, False))


@dataclass(frozen=True, slots=True)
class GreedyRun:
    """The greedy continuation of one prompt, token by token, and the figures of its logits."""

    prompt: str
    tokens: tuple[int, ...]
    text: str
    top_probability: tuple[float, ...]
    lowest: float
    highest: float
    non_finite: int
    saturated: float
    ended: bool


@dataclass(frozen=True, slots=True)
class Tokenized:
    """What llama.cpp makes of known texts: (text, ids, expected), (text, text), (token, ends, expected)."""

    encoded: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    round_trips: tuple[tuple[str, str], ...] = ()
    ends: tuple[tuple[int, bool, bool], ...] = ()
    died: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Variant:
    """The first answer with other options of the engine, and how many of its tokens are the same."""

    name: str
    same: int
    of: int
    failed: str = ""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What the child said. `exit_code` is negative for a signal; `error` is llama.cpp's own complaint."""

    runs: tuple[GreedyRun, ...] = ()
    exit_code: int = 0
    timed_out: bool = False
    error: str = ""
    has_gpu: bool = False

    @property
    def died(self) -> str:
        """Return how the child ended if not well: 'SIGSEGV', 'no answer in 300 s', else ''."""
        if self.timed_out:
            return "no answer in time"
        if self.exit_code < 0:
            return signal.Signals(-self.exit_code).name
        return ""


@dataclass(frozen=True, slots=True)
class ChildAnswer:
    """The JSON lines of a child and how it ended."""

    lines: tuple[dict[str, Any], ...]
    exit_code: int
    timed_out: bool
    stderr: str


def ask_child(request: dict[str, Any], timeout_s: float = TIMEOUT_S) -> ChildAnswer:
    """Return the answer of a probe child to `request`. Never raises for what the child does."""
    command = [sys.executable, "-m", "g4cli.runtime.probe"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        encoding="utf-8", errors="replace",
    )  # fmt: skip
    timed_out = False
    try:
        out, err = process.communicate(json.dumps(request), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        timed_out = True
        process.kill()
        out, err = process.communicate()
    except BaseException:
        process.kill()
        raise
    return ChildAnswer(tuple(_json_lines(out)), process.returncode, timed_out, err[-4000:])


def greedy_probe(
    path: Path,
    prompts: tuple[str, ...],
    *,
    n_tokens: int = N_TOKENS,
    options: Mapping[str, Any] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> ProbeResult:
    """Return greedy tokens for each prompt from a child process; `options` as the probe takes them."""
    request = {"task": "greedy", "path": str(path.absolute()), "prompts": list(prompts), "n_tokens": n_tokens}
    answer = ask_child({**request, "options": dict(options or {})}, timeout_s)
    runs = tuple(_run(line) for line in answer.lines if line.get("event") == "run")
    has_gpu = any(line.get("gpu") for line in answer.lines if line.get("event") == "loaded")
    return ProbeResult(runs, answer.exit_code, answer.timed_out, _error(answer), has_gpu)


def try_variants(path: Path, prompt: str, base: GreedyRun, *, has_gpu: bool) -> tuple[Variant, ...]:
    """Return the first 16 tokens of one answer under each of VARIANTS, compared with `base`."""
    found = []
    for name, options in VARIANTS:
        if name == "GPU" and not has_gpu:
            continue
        result = greedy_probe(path, (prompt,), n_tokens=16, options=options)
        if not result.runs:
            found.append(Variant(name, 0, 16, result.died or result.error or "no answer"))
            continue
        mine, theirs = base.tokens[:16], result.runs[0].tokens[:16]
        same = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), len(mine))
        found.append(Variant(name, same, len(mine)))
    return tuple(found)


def tokenize(path: Path, n_tokens: int, timeout_s: float = 60.0) -> Tokenized:
    """Return what llama.cpp makes of known texts with the file's tokenizer, loaded without its weights."""
    known = [*CONTROL_TEXTS, *(GOLDEN if n_tokens == 262_144 else ())]
    ends = [*ENDS, *(((212, False), (50, True)) if n_tokens == 262_144 else ())]
    answer = ask_child(
        {"task": "tokenize", "path": str(path.absolute()), "texts": [text for text, _ in known],
         "round_trips": list(ROUND_TRIPS), "tokens": [token for token, _ in ends]},
        timeout_s,
    )  # fmt: skip
    said = next((line for line in answer.lines if line.get("event") == "tokenized"), None)
    if said is None:
        died = ProbeResult((), answer.exit_code, answer.timed_out).died
        return Tokenized(died=died, error=_error(answer) or "no answer")
    return Tokenized(
        tuple((text, tuple(ids), want) for (text, want), ids in zip(known, said["ids"], strict=True)),
        tuple(zip(ROUND_TRIPS, said["round_trips"], strict=True)),
        tuple((token, got, want) for (token, want), got in zip(ends, said["ends"], strict=True)),
    )


def _run(line: dict[str, Any]) -> GreedyRun:
    known = {f.name for f in fields(GreedyRun)}
    values: Any = {n: tuple(v) if isinstance(v, list) else v for n, v in line.items() if n in known}
    return GreedyRun(**values)


def _error(answer: ChildAnswer) -> str:
    if not answer.exit_code:
        return ""
    errors = [str(line["message"]) for line in answer.lines if line.get("event") == "error"]
    stderr = answer.stderr.strip().splitlines()
    return errors[-1] if errors else stderr[-1] if stderr else ""


def _json_lines(text: str) -> list[dict[str, Any]]:
    found = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue  # half a line: the child died while writing it
        if isinstance(value, dict):
            found.append(value)
    return found

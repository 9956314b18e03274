"""Run the probes in a child process: what a file does to llama.cpp cannot hurt g4.

The child runs `g4cli.runtime.probes.doctor_child`: it reads one JSON request from standard input and
answers with JSON lines on standard output, flushed one by one, so that a crash keeps what was seen before
it. It has a limit of time and one of memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from g4cli.core.child import run_child, signal_name
from g4cli.core.child_memory import DATA_SLACK
from g4cli.core.units import GIB, size_text

N_TOKENS: Final = 32
# Room for a question and its answer; the KV cache of the 31B network is then 220 MiB.
N_CTX: Final = 256
TIMEOUT_S: Final = 300.0
# More for large files: one token reads the whole file, at 2 GB/s where the disk or one core is slow.
_S_PER_GIB: Final = 30.0
# What a child may have besides the file itself, which is mapped. The largest published network (31B) plans
# 440 MiB of KV cache as F32 and 180 MiB of compute; Python and the vocabulary take 300.
MEMORY_BYTES: Final = 2 * GIB
# How llama.cpp wraps its reason: the functions it comes from, and what the last one makes of it.
_WRAPPING: Final = re.compile(
    r"llama\.cpp does not load the file: |error loading model: |llama_\w+: |"
    r"; llama_model_load_from_file_impl: failed to load model$"
)
# What llama.cpp says when the kernel refuses it memory.
_REFUSED: Final = re.compile(
    r"bad_alloc|failed to allocate|unable to allocate|Cannot allocate memory", re.I
)


@dataclass(frozen=True, slots=True)
class GreedyRun:
    """The greedy continuation of one prompt, token by token, and the figures of its logits.

    `entropy` is that of the distribution over the next token, in bits, one figure per step.
    """

    prompt: str
    tokens: tuple[int, ...]
    text: str
    top_probability: tuple[float, ...]
    lowest: float
    highest: float
    non_finite: int
    saturated: float
    ended: bool
    entropy: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What the child said. `exit_code` is negative for a signal; `error` is llama.cpp's own complaint.

    `over_limit` says that the child was ended because it wanted more memory than `limit_bytes`.
    """

    runs: tuple[GreedyRun, ...] = ()
    exit_code: int = 0
    timed_out: bool = False
    error: str = ""
    gpus: tuple[str, ...] = ()
    n_vocab: int = 0
    over_limit: bool = False
    limit_bytes: int = 0
    peak_bytes: int = 0

    @property
    def died(self) -> str:
        """Return how the child ended if not well: 'SIGSEGV', 'no answer in time', else ''."""
        if self.over_limit:
            return f"it wanted more than {size_text(self.limit_bytes)} of memory"
        if self.timed_out:
            return "no answer in time"
        return signal_name(self.exit_code)


@dataclass(frozen=True, slots=True)
class ChildAnswer:
    """The JSON lines of a child and how it ended."""

    lines: tuple[dict[str, Any], ...]
    exit_code: int
    timed_out: bool
    stderr: str
    over_limit: bool = False
    peak_bytes: int = 0

    def event(self, name: str) -> dict[str, Any] | None:
        """Return the first line of that event."""
        return next((line for line in self.lines if line.get("event") == name), None)

    @property
    def error(self) -> str:
        """Return the child's complaint if it failed, else ''."""
        if not self.exit_code:
            return ""
        errors = [str(line["message"]) for line in self.lines if line.get("event") == "error"]
        stderr = self.stderr.strip().splitlines()
        return errors[-1] if errors else stderr[-1] if stderr else ""


def reason(error: str) -> str:
    """Return llama.cpp's complaint without the names of its functions."""
    return _WRAPPING.sub("", error)


def ask_child(
    request: dict[str, Any], timeout_s: float = TIMEOUT_S, *, limit_bytes: int = MEMORY_BYTES
) -> ChildAnswer:
    """Return the answer of a probe child to `request`. Never raises for what the child does."""
    text = json.dumps({**request, "data_limit": limit_bytes + DATA_SLACK})
    seen, status = run_child(
        "g4cli.runtime.probes.doctor_child",
        text=text,
        timeout_s=timeout_s,
        memory_bytes=limit_bytes,
    )
    answer = ChildAnswer(
        tuple(_json_lines(seen.stdout)),
        status,
        seen.timed_out,
        seen.stderr[-4000:],
        seen.over_limit,
        seen.peak_bytes,
    )
    if not seen.over_limit and _REFUSED.search(answer.error):
        # The kernel was faster than the eye of the parent: one allocation beyond all limits.
        return ChildAnswer(
            answer.lines, answer.exit_code, False, answer.stderr, True, seen.peak_bytes
        )
    return answer


def greedy_probe(
    path: Path,
    prompts: Sequence[tuple[str, str]],
    *,
    n_tokens: int = N_TOKENS,
    options: Mapping[str, Any] | None = None,
    limit_bytes: int = MEMORY_BYTES,
) -> ProbeResult:
    """Return greedy tokens for each prompt (its name, its whole text) from a child process.

    `options` as the probe takes them.
    """
    request = {
        "task": "greedy",
        "path": str(path.absolute()),
        "prompts": [text for _, text in prompts],
        "n_tokens": n_tokens,
        "options": {"n_ctx": N_CTX, **dict(options or {})},
    }
    seconds = TIMEOUT_S + path.stat().st_size / GIB * _S_PER_GIB
    answer = ask_child(request, seconds, limit_bytes=limit_bytes)
    lines = [line for line in answer.lines if line.get("event") == "run"]
    runs = tuple(_run(line, name) for line, (name, _) in zip(lines, prompts, strict=False))
    loaded = answer.event("loaded") or {}
    return ProbeResult(
        runs,
        answer.exit_code,
        answer.timed_out,
        answer.error,
        tuple(loaded.get("gpus", ())),
        int(loaded.get("n_vocab", 0)),
        answer.over_limit,
        limit_bytes,
        answer.peak_bytes,
    )


def _run(line: dict[str, Any], name: str) -> GreedyRun:
    known = {f.name for f in fields(GreedyRun)}
    values: Any = {n: tuple(v) if isinstance(v, list) else v for n, v in line.items() if n in known}
    return GreedyRun(**{**values, "prompt": name})


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

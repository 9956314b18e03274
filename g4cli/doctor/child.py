"""Run the probes in a child process: what a file does to llama.cpp cannot hurt g4.

The child is `python -m g4cli.runtime.probe`; it reads one JSON request from standard input and answers with
JSON lines on standard output, flushed one by one, so that a crash keeps what was seen before it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Three questions whose answers any Gemma 4 knows, in chat form.
QUESTIONS: Final = (
    "What is the capital of France?",
    "What is 2 + 2?",
    "Repeat this word: zebra",
)
N_TOKENS: Final = 48
TIMEOUT_S: Final = 300.0


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
class ProbeResult:
    """What the child said. `exit_code` is negative for a signal; `error` is llama.cpp's own complaint."""

    runs: tuple[GreedyRun, ...] = ()
    exit_code: int = 0
    timed_out: bool = False
    error: str = ""

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


def greedy_probe(path: Path, timeout_s: float = TIMEOUT_S) -> ProbeResult:
    """Return 48 greedy tokens for each of QUESTIONS, on the CPU, from a child process."""
    answer = ask_child(
        {"task": "greedy", "path": str(path.absolute()), "prompts": list(QUESTIONS), "n_tokens": N_TOKENS},
        timeout_s,
    )
    runs = tuple(
        GreedyRun(
            prompt=line["prompt"],
            tokens=tuple(line["tokens"]),
            text=line["text"],
            top_probability=tuple(line["top_probability"]),
            lowest=line["lowest"],
            highest=line["highest"],
            non_finite=line["non_finite"],
            saturated=line["saturated"],
            ended=line["ended"],
        )
        for line in answer.lines
        if line.get("event") == "run"
    )
    errors = [str(line["message"]) for line in answer.lines if line.get("event") == "error"]
    error = errors[-1] if errors else answer.stderr.strip().splitlines()[-1] if answer.stderr.strip() else ""
    return ProbeResult(runs, answer.exit_code, answer.timed_out, error if answer.exit_code else "")


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

"""Run a probe in a child process, so that a file that crashes llama.cpp does not crash g4.

The child runs `g4cli.runtime.probes.doctor_child`: it reads one JSON request from standard input
and answers with JSON lines on standard output, flushed one by one, so that a crash loses nothing
that was sent before it. Its time and its memory are limited.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from g4cli.core.child import parse_json_lines, run_child, signal_name
from g4cli.core.child_memory import DATA_SLACK
from g4cli.core.split_name import list_parts
from g4cli.core.units import GIB, size_text

# Tokens of an answer at most: a choice, four times the longest period in `find_early_loop`.
N_ANSWER_TOKENS: Final = 32
UNKNOWN_ARCHITECTURE: Final = "unknown-architecture"
"""The code of an error, and of a finding: this llama.cpp does not know the network."""
UNKNOWN_PRE_TOKENIZER: Final = "unknown-pre-tokenizer"
"""The code of an error: this llama.cpp does not know how the model splits text into words."""
# Enough for a question and its answer; the KV cache of the 31B model is then 220 MiB.
N_CTX: Final = 256
# A choice: a small file takes seconds, and a slow machine with a busy disk a few minutes.
TIMEOUT_S: Final = 300.0
# Large files take longer: about 60 tokens are computed, each of which reads the whole file, at
# 2 GB/s if the disk or the CPU is slow.
_TIMEOUT_S_PER_GIB: Final = 30.0
# What a child may use besides the file itself, which is mapped. The largest published model (31B)
# needs 440 MiB for its KV cache as F32 and 180 MiB of compute buffer; Python and the vocabulary
# need 300 MiB.
MEMORY_BYTES: Final = 2 * GIB
# The names of functions in llama.cpp's error messages, which tell its users nothing.
_FUNCTION_NAMES: Final = re.compile(
    r"llama\.cpp cannot load the file: |error loading model: |llama_\w+: |"
    r"; llama_model_load_from_file_impl: failed to load model$"
)
# llama.cpp's messages when the operating system refuses it memory.
_OUT_OF_MEMORY: Final = re.compile(
    r"bad_alloc|failed to allocate|unable to allocate|Cannot allocate memory", re.I
)


@dataclass(frozen=True, slots=True)
class GreedyRun:
    """The greedy continuation of one prompt and statistics of its logits.

    `prompt` is the name of the prompt. `top_probability` and `entropy` (in bits) have one number
    per token: the probability of the token that was chosen, and the uncertainty about it. Over all
    logits: the lowest, the highest, how many are not finite, and the share (0 to 1) that is
    saturated at the softcap.
    """

    prompt: str
    tokens: tuple[int, ...]
    text: str
    top_probability: tuple[float, ...]
    lowest: float
    highest: float
    non_finite: int
    saturated: float
    entropy: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ChildAnswer:
    """The JSON lines of a child, and how it ended. `exit_code` is negative for a signal.

    `over_limit`: the child was ended because it needed more memory than `limit_bytes`.
    """

    lines: tuple[dict[str, Any], ...] = ()
    exit_code: int = 0
    timed_out: bool = False
    stderr: str = ""
    over_limit: bool = False
    limit_bytes: int = 0

    @property
    def died(self) -> str:
        """How the child failed: 'SIGSEGV', 'no answer in time' ..., or ''."""
        if self.over_limit:
            return f"it needed more than {size_text(self.limit_bytes)} of memory"
        return "no answer in time" if self.timed_out else signal_name(self.exit_code)

    @property
    def crashed(self) -> bool:
        """Whether a signal ended the child that its limits did not cause."""
        return self.exit_code < 0 and not (self.timed_out or self.over_limit)

    @property
    def failure(self) -> str:
        """Why there is no answer: how the child died, or llama.cpp's message."""
        return self.died or _FUNCTION_NAMES.sub("", self.error) or "no answer"

    def find_event(self, name: str) -> dict[str, Any] | None:
        """Return the first line of the event `name`, or None."""
        return next((line for line in self.lines if line.get("event") == name), None)

    @property
    def error_code(self) -> str:
        """The code of the last error event: UNKNOWN_ARCHITECTURE ..., or ''."""
        codes = [str(e.get("code", "")) for e in self.lines if e.get("event") == "error"]
        return codes[-1] if codes else ""

    @property
    def error(self) -> str:
        """The last error message of a child that failed, else ''."""
        if not self.exit_code:
            return ""
        errors = [str(line["message"]) for line in self.lines if line.get("event") == "error"]
        stderr = self.stderr.strip().splitlines()
        return errors[-1] if errors else stderr[-1] if stderr else ""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The answers of a network, and the child that gave them.

    `gpus` are ggml's names of the GPUs that it found, `n_vocab` the size of the vocabulary.
    `surprise`: the mean of -log2 p over the tokens of a known text, None if none was read.
    """

    runs: tuple[GreedyRun, ...] = ()
    child: ChildAnswer = ChildAnswer()
    gpus: tuple[str, ...] = ()
    n_vocab: int = 0
    surprise: float | None = None


def ask_child(
    request: dict[str, Any], timeout_s: float = TIMEOUT_S, *, limit_bytes: int = MEMORY_BYTES
) -> ChildAnswer:
    """Return the answer of a child to `request`, a task of `runtime.probes.doctor_child`.

    Whatever the child does is part of the answer: nothing is raised for it.
    """
    text = json.dumps({**request, "data_limit": limit_bytes + DATA_SLACK})
    result, status = run_child(
        "g4cli.runtime.probes.doctor_child",
        text=text,
        timeout_s=timeout_s,
        memory_bytes=limit_bytes,
    )
    answer = ChildAnswer(
        tuple(parse_json_lines(result.stdout)),
        status,
        result.timed_out,
        result.stderr[-4000:],  # its last line tells, and llama.cpp may write megabytes
        result.over_limit,
        limit_bytes,
    )
    if not result.over_limit and _OUT_OF_MEMORY.search(answer.error):
        # RLIMIT_DATA refused the allocation before the parent's poll saw it.
        return replace(answer, timed_out=False, over_limit=True)
    return answer


def greedy_probe(
    path: Path,
    prompts: Sequence[tuple[str, str]],
    *,
    n_tokens: int = N_ANSWER_TOKENS,
    options: Mapping[str, Any] | None = None,
    limit_bytes: int = MEMORY_BYTES,
    text: str = "",
) -> ProbeResult:
    """Return greedy continuations of up to `n_tokens` tokens; a prompt is (name, whole text).

    `text` is read after them, if there is one, to see how well the network predicts it. `options`
    are those of the task "greedy" in `runtime.probes.doctor_child`; `limit_bytes` is the memory
    that the child may use besides the file.
    """
    request = {
        "task": "greedy",
        "path": str(path.absolute()),
        "prompts": [prompt for _, prompt in prompts],
        "n_tokens": n_tokens,
        "options": {"n_ctx": N_CTX, **dict(options or {})},
        "text": text,
    }
    seconds = TIMEOUT_S + count_model_bytes(path) / GIB * _TIMEOUT_S_PER_GIB
    answer = ask_child(request, seconds, limit_bytes=limit_bytes)
    lines = [line for line in answer.lines if line.get("event") == "run"]
    # A child that died has answered fewer prompts.
    runs = tuple(_parse_run(line, name) for line, (name, _) in zip(lines, prompts, strict=False))
    loaded = answer.find_event("loaded") or {}
    return ProbeResult(
        runs,
        answer,
        tuple(loaded.get("gpus", ())),
        int(loaded.get("n_vocab", 0)),
        (answer.find_event("read") or {}).get("surprise"),
    )


def count_model_bytes(path: Path) -> int:
    """Return the bytes of the file at `path`; of a split model those of all parts in the folder."""
    parts = map(path.with_name, list_parts(path.name))
    return sum(part.stat().st_size for part in parts if part.is_file())


def _parse_run(line: dict[str, Any], name: str) -> GreedyRun:
    known = {f.name for f in fields(GreedyRun)}
    values: Any = {n: tuple(v) if isinstance(v, list) else v for n, v in line.items() if n in known}
    return GreedyRun(**{**values, "prompt": name})

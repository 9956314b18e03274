"""llama.cpp's own memory figures for a file and a set of options, from a child process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from g4cli.core.child import exit_text, run_child
from g4cli.core.errors import RuntimeFailed
from g4cli.core.quoting import shell_word
from g4cli.estimate import Options

_TIMEOUT_S: Final = 60  # a choice: reading a header and planning takes about a second

# Options that the child reads as they are.
_SAME_OPTIONS: Final = (
    "n_ctx", "n_batch", "n_ubatch", "n_seq", "kv_unified", "flash_attn", "swa_full",
    "n_gpu_layers", "n_cpu_moe", "tensor_split",
)  # fmt: skip


def describe_run(options: Options) -> dict[str, Any]:
    """Return `options` under the names of `memory_child.RUN_DEFAULTS`; types by ggml's number."""
    return {
        **{name: getattr(options, name) for name in _SAME_OPTIONS},
        "n_outputs": options.outputs if options.n_outputs else 0,  # 0: a row for each token
        "type_k": options.type_k.id,
        "type_v": options.type_v.id,
        "repack": bool(options.repack),  # in Options: the types of weights that are repacked
    }


def probe_in_child(path: Path, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return {"library": version, "runs": the plans of `memory_child.probe_memory`}.

    Raises RuntimeFailed if llama.cpp refuses the file, crashes, or takes longer than a minute.
    """
    text, hint = json.dumps([dict(run) for run in runs]), f"g4 doctor {shell_word(path)}"
    done, status = run_child(
        "g4cli.runtime.probes.memory_child", [str(path)], text=text, timeout_s=_TIMEOUT_S
    )
    if done.timed_out:
        raise RuntimeFailed(f"llama.cpp took too long to plan the memory of {path}", hint=hint)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError as err:
        last = done.stderr.strip().splitlines()[-1:] or [exit_text(status)]
        raise RuntimeFailed(
            f"{path}: llama.cpp crashed while loading this file ({last[0]})", hint=hint
        ) from err
    if "error" in answer:
        raise RuntimeFailed(str(answer["error"]), hint=hint)
    return answer

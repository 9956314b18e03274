"""Run llama.cpp's own quantizer in a child process, since it may abort on a bad file.

    python -m tests.support.run.llama_quantize < jobs.json

`expect(jobs)` writes the files and returns the return codes.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from typing import Any

from tests.support.paths import ROOT

FTYPES = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10,
    "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16,
    "q5_k_m": 17, "q6_k": 18, "iq4_nl": 25, "iq4_xs": 30, "bf16": 32, "mxfp4": 38,
}  # fmt: skip


def expect(jobs: list[dict[str, Any]]) -> list[int]:
    """Return the return codes of `jobs`, run in one child process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.run.llama_quantize"],
        cwd=ROOT,
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return list(json.loads(done.stdout))


def _run(job: dict[str, Any]) -> int:
    from llama_cpp import llama_cpp as lib

    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread = FTYPES[job["type"]], job.get("threads", 2)
    params.pure = job.get("pure", False)
    params.allow_requantize = job.get("allow_requantize", False)
    keep: list[Any] = []
    if job.get("overrides"):
        rows = [(p.encode(), t) for p, t in job["overrides"]] + [(None, 0)]
        overrides = (lib.llama_model_tensor_override * len(rows))(*rows)
        keep.append(overrides)
        params.tt_overrides = overrides
    if job.get("imatrix"):
        # Weights by tensor, or the path of a JSON file with them.
        weights = job["imatrix"]
        if isinstance(weights, str):
            with open(weights, encoding="utf-8") as file:
                weights = json.load(file)
        entries = []
        for name, values in weights.items():
            data = (ctypes.c_float * len(values))(*values)
            keep.append(data)
            entries.append((name.encode(), data, len(values)))
        table = (lib.llama_model_imatrix_data * (len(entries) + 1))(*entries, (None, None, 0))
        keep.append(table)
        params.imatrix = table
    return int(
        lib.llama_model_quantize(
            job["source"].encode(), job["target"].encode(), ctypes.byref(params)
        )
    )


def _main() -> None:
    answer = os.dup(1)
    os.dup2(2, 1)  # the library prints to standard output too
    codes = [_run(job) for job in json.load(sys.stdin)]
    os.write(answer, json.dumps(codes).encode())


if __name__ == "__main__":
    _main()

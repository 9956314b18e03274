"""Record what llama.cpp itself plans for the published shapes: the golden of g4's memory estimates.

    python tests/oracle/record_memory.py [MODEL ...]        writes tests/golden/memory_MODEL.json
    python tests/oracle/record_memory.py drafts             writes tests/golden/memory_drafts.json

Each file has the real shape and vocabulary size and no weights
(tests/support/builders/real_shapes.py), so llama.cpp's loader checks names and shapes and its
planner gives the figures (model_params.no_alloc). Takes about a minute; needs the pinned
llama-cpp-python on Linux, nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.host import read_host
from g4cli.runtime.probes.memory_child import RUN_DEFAULTS
from tests.support.builders import real_shapes, shapes

GOLDEN = Path(__file__).parents[1] / "golden"
CONTEXTS = (512, 2048, 4096, 8192, 32768, 131072, 262144)
MODEST = 4096  # shorter contexts are for networks that were made for no longer ones
KV_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}
FILE_TYPES = ("q4_0", "q8_0", "q4_k_m", "q6_k", "bf16")
# Beside the grid: sequences, odd contexts, every row of logits, small batches.
EXTRAS: tuple[dict[str, Any], ...] = (
    {"n_ctx": 1},
    {"n_ctx": 300},
    {"n_ctx": 5000, "n_ubatch": 1000},
    {"n_ctx": 8192, "n_outputs": 0},
    {"n_ctx": 8192, "n_ubatch": 32},
    {"n_ctx": 8192, "n_ubatch": 2048, "n_batch": 4096, "n_outputs": 16},
    {"n_ctx": 8192, "n_seq": 2},
    {"n_ctx": 8192, "n_seq": 3, "kv_unified": True},
    {"n_ctx": 8192, "n_seq": 4, "flash_attn": False},
    {"n_ctx": 8192, "type_k": 8},
    {"n_ctx": 8192, "type_k": 8, "flash_attn": False},
    {"n_ctx": 8192, "type_k": 7, "type_v": 6},
    {"n_ctx": 8192, "type_k": 30, "type_v": 30},
)


def list_options(n_ctx_train: int) -> list[dict[str, Any]]:
    """Return the options of every cell."""
    cells: list[dict[str, Any]] = []
    for n_ctx, kind, ubatch, swa_full, flash in product(
        CONTEXTS, KV_TYPES.values(), (512, 2048), (False, True), (True, False)
    ):
        if (n_ctx < MODEST) != (n_ctx_train < MODEST) or n_ctx > n_ctx_train:
            continue
        if flash or kind == 1:
            cells.append(
                {
                    "n_ctx": n_ctx,
                    "type_k": kind,
                    "type_v": kind,
                    "n_ubatch": ubatch,
                    "swa_full": swa_full,
                    "flash_attn": flash,
                }
            )
    return cells + [dict(extra) for extra in EXTRAS if extra["n_ctx"] <= n_ctx_train]


def plan_in_child(path: Path, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return llama.cpp's answer, from a child process."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("memory_breakdown.py")), str(path)],
        input=json.dumps(runs),
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise SystemExit(f"{path}: {answer['error']}")
    return answer


def record_model(model: str, folder: Path) -> dict[str, Any]:
    """Return the golden of one model."""
    shape = shapes.ALL[model]
    path = real_shapes.build(folder / f"{model}.gguf", model, shape, "q4_0")
    runs = list_options(shape.n_ctx_train)
    answer = plan_in_child(path, runs)
    rows = []
    for run, result in zip(runs, answer["runs"], strict=True):
        cpu = result["buffers"]["CPU"]
        changed = {k: v for k, v in run.items() if v != RUN_DEFAULTS[k]}
        rows.append(
            [
                changed,
                cpu["context"],
                cpu["compute"],
                result["output"]["CPU"],
                [[cache["cells"], cache["layers"]] for cache in result["kv"]],
            ]
        )
    weights = {}
    for type_name in FILE_TYPES:
        path = real_shapes.build(folder / f"{model}.gguf", model, shape, type_name)
        results = plan_in_child(path, [{"n_ctx": 256}, {"n_ctx": 256, "repack": False}])["runs"]
        weights[type_name] = [{k: b["model"] for k, b in r["buffers"].items()} for r in results]
    return {
        "library": answer["library"],
        **read_cpu_features(),
        "columns": ["options", "kv_bytes", "compute_bytes", "output_bytes", "[cells, layers]"],
        "rows": rows,
        "weights": weights,
    }


def list_draft_options(n_ctx_train: int) -> list[dict[str, Any]]:
    """Return the options of every cell of a drafter: contexts, cache types, its own batches."""
    cells: list[dict[str, Any]] = []
    contexts = (1024, 2048) if n_ctx_train < MODEST else (4096, 32768, n_ctx_train)
    for n_ctx, kind, ubatch, flash in product(
        contexts, KV_TYPES.values(), (1, 8, 512), (True, False)
    ):
        for n_outputs in sorted({1, min(ubatch, 5), ubatch}):
            if flash or kind == 1:
                cells.append(
                    {
                        "n_ctx": n_ctx,
                        "type_k": kind,
                        "type_v": kind,
                        "flash_attn": flash,
                        "n_batch_draft": ubatch,
                        "n_ubatch_draft": ubatch,
                        "n_outputs_draft": n_outputs,
                    }
                )
    more: dict[str, Any] = {"n_ctx": contexts[0], "n_batch_draft": 8, "n_ubatch_draft": 8}
    return [
        *cells,
        {**more, "swa_full": True},
        {**more, "n_ubatch": 256},
        {**more, "n_ubatch": 2048},
    ]


def record_drafts(folder: Path) -> dict[str, Any]:
    """Return the golden of the drafters, each beside its model."""
    rows, weights, library = [], {}, ""
    for model, shape in shapes.DRAFTS.items():
        target = shapes.ALL[model]
        vocabulary = real_shapes.synthetic_vocabulary(target.n_vocab)
        beside = real_shapes.build(folder / "a.gguf", model, target, "q4_0", vocabulary=vocabulary)
        sizes = {}
        for type_name in FILE_TYPES:
            draft = real_shapes.build_draft(
                folder / "b.gguf", target, shape, type_name, vocabulary=vocabulary
            )
            run = {"n_ctx": 256, "draft": str(draft)}
            results = plan_in_child(beside, [run, {**run, "repack": False}])["runs"]
            sizes[type_name] = [
                {k: b["model"] for k, b in r["draft"]["buffers"].items()} for r in results
            ]
        weights[model] = sizes
        runs = list_draft_options(target.n_ctx_train)
        answer = plan_in_child(beside, [{**run, "draft": str(draft)} for run in runs])
        library = answer["library"]
        for run, result in zip(runs, answer["runs"], strict=True):
            cpu = result["draft"]["buffers"]["CPU"]
            rows.append([run, cpu["context"], cpu["compute"], model])
    columns = ["options", "kv_bytes", "compute_bytes", "model"]
    return {
        "library": library,
        **read_cpu_features(),
        "columns": columns,
        "rows": rows,
        "weights": weights,
    }


def read_cpu_features() -> dict[str, Any]:
    """Return what of this CPU decides which weights are repacked."""
    return {
        "cpu_features": sorted(read_host().cpu_features & {"avx2", "avx512f", "asimddp", "i8mm"})
    }


def main() -> None:
    """Record the models named on the command line, or all and their drafters."""
    with tempfile.TemporaryDirectory() as folder:
        for model in sys.argv[1:] or [*shapes.ALL, "drafts"]:
            golden = (
                record_drafts(Path(folder))
                if model == "drafts"
                else record_model(model, Path(folder))
            )
            text = json.dumps(golden, separators=(",", ":")).replace('],[{"', '],\n[{"')
            (GOLDEN / f"memory_{model}.json").write_text(text + "\n")
            print(f"{model}: {len(golden['rows'])} cells, llama-cpp-python {golden['library']}")


if __name__ == "__main__":
    main()

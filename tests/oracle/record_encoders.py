"""Record what mtmd itself plans for Gemma 4's encoders: the golden of g4's estimates of them.

    python tests/oracle/record_encoders.py        writes tests/golden/memory_encoders.json

Files of the real shapes without weights (tests/support/builders/real_mmproj.py) beside text
networks without weights. mtmd logs its compute buffer when it warms up: with an image of 256 tokens
and 3,000 frames of sound. The tokens are fixed, their patches are not: other values of
projector.scale_factor give other images. Takes a minute.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli import LLAMA_CPP_PYTHON
from g4cli.runtime.llama.library import LOG, load_llama, load_mtmd
from tests.support.builders import real_mmproj, real_shapes, shapes

GOLDEN = Path(__file__).parents[1] / "golden" / "memory_encoders.json"
MERGES = (1, 2, 3, 6)  # 256 tokens are so many patches along a side, squared, each
_BUFFER = re.compile(r"CPU compute buffer size = +([0-9.]+) MiB")
_WARMUP = re.compile(r"warmup with (image size|audio size) = (\d+)")


def plan_in_child(text: Path, mmproj: Path) -> list[tuple[str, int, float]]:
    """Return what was planned, its size and the MiB that mtmd logs; called in a child process."""
    c, media = load_llama(), load_mtmd()
    params = c.llama_model_default_params()
    params.no_alloc, params.load_mode = True, 0
    model = c.llama_model_load_from_file(str(text).encode(), params)
    options = media.mtmd_context_params_default()
    options.use_gpu, options.warmup, options.print_timings = False, True, False
    LOG.clear()
    assert media.mtmd_init_from_file(str(mmproj).encode(), model, options), LOG.find_error_text()
    found, what = [], ("", 0)
    for line in LOG.lines:
        if match := _WARMUP.search(line.text):
            what = (match[1].split()[0], int(match[2]))
        elif match := _BUFFER.search(line.text):
            found.append((*what, float(match[1])))
    return found


def main() -> None:
    """Record every encoder, or answer for the files on the command line."""
    if len(sys.argv) > 2:
        print(json.dumps(plan_in_child(Path(sys.argv[1]), Path(sys.argv[2]))))
        return
    rows: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        for model in real_mmproj.ENCODERS:
            voc = real_shapes.synthetic_vocabulary()
            text = real_shapes.build(
                Path(folder) / "t.gguf", model, shapes.ALL[model], "q4_0", vocabulary=voc
            )
            for merge in MERGES if real_mmproj.ENCODERS[model][1].n_layer else (3,):
                mmproj = real_mmproj.build(Path(folder) / "m.gguf", model, merge=merge)
                command = [sys.executable, __file__, str(text), str(mmproj)]
                env = {**os.environ, "GGML_NO_BACKTRACE": "1"}
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
                rows += [[model, merge, *row] for row in json.loads(done.stdout)]
                print(rows[-2:], file=sys.stderr)
    columns = [
        "model",
        "patches along a side of a token",
        "kind",
        "side in pixels or frames",
        "MiB",
    ]
    golden = {"library": LLAMA_CPP_PYTHON, "columns": columns, "rows": rows}
    GOLDEN.write_text(json.dumps(golden).replace("], [", "],\n["))


if __name__ == "__main__":
    main()

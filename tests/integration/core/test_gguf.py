"""The header reader agrees with gguf-py on good files, and refuses every bad one.

The error names file, offset and field.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# --- cost -------------------------------------------------------------------------------

# VmHWM, because ru_maxrss of a child starts at its parent's size; elsewhere than on Linux it has to
# do.
MEASURE = """
import json, pathlib, resource, sys, time
from g4cli.core.gguf import read_header
def peak_mib():
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
started = time.process_time()
header = read_header(sys.argv[1])
print(json.dumps([header.keys["tokenizer.ggml.tokens"].data.count, time.process_time() - started,
                  peak_mib(), "numpy" in sys.modules]))
"""


@pytest.mark.requires_vocab
def test_the_real_vocabulary_costs_little(vocab_file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, vocab_file], capture_output=True, check=True
    )
    count, seconds, mib, has_numpy = json.loads(done.stdout)
    assert count == 262_144
    assert mib < 60
    assert not has_numpy
    assert (
        seconds < 1
    )  # generous: a regression to per-item objects takes over 2 s; tests/bench has the figure

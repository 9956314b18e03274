"""Ctrl-C and kill -9 while `g4 compare` asks: it ends at once, and no answer is asked for twice."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes.endpoint import Answer, run_endpoint, stream_text

MAIN = "from g4cli.cli.main import main; main()"
N_PARALLEL = 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_waits_for_no_server_and_costs_no_answer(
    tmp_path: Path, number: signal.Signals
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"id": "p{n}", "prompt": "Say {n}."}}\n' for n in range(8)))
    may_answer, all_asked = threading.Event(), threading.Barrier(N_PARALLEL + 1, timeout=300)
    numbers = itertools.count()  # shared by threads: next() is one step

    def answer(_body: dict[str, Any]) -> Answer:
        if next(numbers) >= 4 and not may_answer.is_set():
            all_asked.wait()
            may_answer.wait(300)
        return stream_text("ok")

    with run_endpoint(answer) as fake:
        model = f"openai:{fake.url}#m@parallel={N_PARALLEL}"
        command = [sys.executable, "-c", MAIN, "compare", "--prompts", "prompts.jsonl", "-m", model]
        with subprocess.Popen(command, cwd=tmp_path, start_new_session=True) as process:
            all_asked.wait()
            while (tmp_path / "compare.jsonl").read_text().count("\n") < 4:
                time.sleep(0.02)
            os.kill(process.pid, number)
            code = process.wait(120)  # less than the server takes
        assert code == (130 if number == signal.SIGINT else -number)
        may_answer.set()
        n_before = len(fake.bodies)
        done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, check=True)
    assert n_before == 4 + N_PARALLEL
    assert len(fake.bodies) - n_before == 4, "answers that came before are not asked for again"
    assert json.loads(done.stdout)["run"]["complete"]

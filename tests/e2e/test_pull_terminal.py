"""A download in a real terminal: what is on the screen before, during and after Ctrl-C."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from tests.support.builders.gguf import BF16, build_gguf, gemma4_keys
from tests.support.fakes.hub import FakeHub, FakeRepo, running
from tests.support.run.terminal import Terminal

REPO = "owner/repo-GGUF"


@pytest.mark.slow
def test_ctrl_c_leaves_a_clean_screen_and_the_same_command_goes_on(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes
    data = build_gguf(gemma4_keys(), [("token_embd.weight", BF16, (64, 16), noise(2048))])
    data += noise(4_000_000)
    projector = build_gguf([("general.architecture", "str", "clip")]) + noise(4_000_000)
    hub = FakeHub(
        repos={REPO: FakeRepo(lfs={"m-Q4_0.gguf": data, "mmproj-m.gguf": projector})},
        rate=4_000_000,
    )
    args = [
        sys.executable,
        "-c",
        "from g4cli.cli.main import main; main()",
        "pull",
        f"hf:{REPO}:q4_0",
    ]
    with running(hub):
        env = {"HF_ENDPOINT": hub.url, "G4_HOME": str(tmp_path / "home"), "NO_COLOR": "1"}
        env |= {"COLUMNS": "80"}
        with Terminal(args, env) as terminal:
            terminal.wait_for(f"look up hf:{REPO}")  # at once, before anything is known
            terminal.wait_for("B/s", count=2)
            assert "m-Q4_0.gguf" in terminal.text
            terminal.send("\x03")
            assert terminal.wait_end() == 130
            words = " ".join(terminal.text.split())
            assert "━" not in words
            assert "error: interrupted; " in words
            assert "hint: run the same command again to resume" in words
        hub.rate = 0
        with Terminal(args, env) as terminal:
            assert terminal.wait_end() == 0
            assert "resuming at" in terminal.text
            assert "━" not in terminal.text
    assert hub.sent_bytes < 2 * len(data) + 4 * 2**20

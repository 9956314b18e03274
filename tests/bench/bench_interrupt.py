"""How long Ctrl-C takes on a large model, while it reads a prompt and while it answers.

python tests/bench/bench_interrupt.py FILE
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from terminal import Terminal

MAIN = "from g4cli.cli.main import main; main()"


def main(file: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        question = "word " * 1500
        command = [sys.executable, "-c", MAIN, "chat", file, "-c", "4096", "--no-loop-stop"]
        with Terminal(command, {"G4_HOME": home, "NO_COLOR": "1"}) as terminal:
            terminal.wait_for("ask something, or /help", seconds=300)
            for name, text, pause in (("reading", question, 2), ("answering", "Hi", 8)):
                terminal.enter(text)
                if name == "reading":
                    terminal.wait_for("reading 1,5", seconds=60)
                time.sleep(pause)
                started = time.perf_counter()
                os.kill(terminal.pid, signal.SIGINT)
                terminal.wait_for("stopped; /retry", count=1 if name == "reading" else 2, seconds=60)
                print(f"{name}: {time.perf_counter() - started:.3f} s")
            terminal.enter("/quit")
            terminal.wait_end()


if __name__ == "__main__":
    main(sys.argv[1])

"""Measure how long Ctrl-C takes during prompt processing, decoding and image encoding.

    python tests/bench/bench_interrupt.py FILE [MMPROJ]

MMPROJ may be a file of real shape without weights (-m tests.support.builders.real_mmproj e2b FILE):
zeros take as long. The image takes 1,120 tokens, the largest budget.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.support.builders.media_files import picture, png, write
from tests.support.run.terminal import Terminal

MAIN = "from g4cli.cli.main import main; main()"


@contextmanager
def open_chat(*args: str) -> Iterator[Terminal]:
    """Return a chat in a pseudo-terminal, ready for a prompt."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-c", MAIN, "chat", *args, "-c", "4096", "--no-loop-stop"]
        with Terminal(command, {"G4_HOME": home, "NO_COLOR": "1"}) as terminal:
            terminal.wait_for("ask something, or /help", seconds=300)
            yield terminal
            terminal.enter("/quit")
            terminal.wait_end()


def measure_ctrl_c(
    terminal: Terminal, name: str, pause: float, wanted: str, count: int = 1
) -> None:
    """Press Ctrl-C after `pause` seconds and print how long the answer takes."""
    time.sleep(pause)
    started = time.perf_counter()
    os.kill(terminal.pid, signal.SIGINT)
    terminal.wait_for(wanted, count=count, seconds=60)
    print(f"{name}: {time.perf_counter() - started:.3f} s", flush=True)


def main(file: str, mmproj: str = "") -> None:
    with open_chat(file) as terminal:
        terminal.enter("word " * 1500)
        terminal.wait_for("reading 1,5", seconds=60)
        measure_ctrl_c(terminal, "reading", 2, "stopped; /retry")
        terminal.enter("Hi")
        measure_ctrl_c(terminal, "answering", 8, "stopped; /retry", 2)
    if not mmproj:
        return
    with tempfile.TemporaryDirectory() as folder:
        image = write(Path(folder) / "p.png", png(picture(2400, 1800)))
        with open_chat(file, "--mmproj", mmproj, "--image-tokens", "1120") as terminal:
            terminal.enter(f"/image {image}")
            terminal.wait_for("encoding p.png", seconds=300)
            measure_ctrl_c(terminal, "encoding a picture", 4, "was not added")
            started = time.perf_counter()
            terminal.enter(f"/image {image}")
            terminal.wait_for("now ask about it", seconds=600)
            print(
                f"(the same picture, not interrupted: {time.perf_counter() - started:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])

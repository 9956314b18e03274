"""`make demo`: the main commands on the bundled model, as a user would type them.

Every line that starts with `$` is a command, followed by its real output. Nothing is downloaded;
all files are written to a temporary folder that is removed at the end.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "g4cli/data/tiny"
BOLD, DIM, PLAIN = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if sys.stdout.isatty() else ("", "", "")


class Step(NamedTuple):
    """One command of the demo, its purpose, and the exit code that it must have."""

    why: str
    command: str
    exit_code: int = 0


STEPS = (
    Step("Get the bundled Gemma 4 network, converted to GGUF.", "g4 pull tiny"),
    Step(
        "The same in single steps: convert a Hugging Face checkpoint to GGUF ...",
        "g4 convert {checkpoint} -o tiny-bf16.gguf --type bf16",
    ),
    Step("... and quantize it.", "g4 quantize tiny-bf16.gguf tiny-q4_0.gguf --type q4_0"),
    Step("What is in the file?", "g4 show tiny-q4_0.gguf"),
    Step("Does it fit, and what takes the memory?", "g4 fit tiny-q4_0.gguf --ctx 2048"),
    Step("The same for a large model, before anything is downloaded.", "g4 fit 12b --ctx 32768"),
    Step("Ask it something.", 'g4 chat tiny -p "What is Q4_0?" --temp 0'),
    Step(
        "Use it in a pipe, with JSON output.",
        'echo "What is the KV cache?" | g4 chat tiny --json --temp 0',
    ),
    Step(
        "Serve it to other programs: curl and OpenAI's own client ask a server on a free port.",
        "python {root}/tools/demo_server.py",
    ),
    Step("Is the file healthy?", "g4 doctor tiny-q4_0.gguf"),
    Step(
        "Now two broken files. One is truncated, as by an interrupted download:",
        "python -m tests.support.builders.damage truncate tiny-bf16.gguf cut.gguf",
    ),
    Step("The doctor says what is missing.", "g4 doctor cut.gguf", 8),
    Step(
        "The other one prints `---` forever, whatever the prompt:",
        "python -m tests.support.builders.damage dashes tiny-bf16.gguf dashes.gguf",
    ),
    Step(
        "The loop detector stops the answer and says why.",
        'g4 chat dashes.gguf -p "Hello" --temp 0 > answer.txt',
        9,
    ),
    Step("These are the first lines of the answer:", "head -n 4 answer.txt"),
    Step("The doctor finds the cause.", "g4 doctor dashes.gguf", 8),
)


def main() -> int:
    """Run every step; return 1 at the first unexpected exit code, else 0."""
    started = time.monotonic()
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    with tempfile.TemporaryDirectory(prefix="g4-demo-") as folder:
        env = os.environ | {"G4_HOME": f"{folder}/home", "PATH": path, "PYTHONPATH": str(ROOT)}
        for step in STEPS:
            typed = step.command.format(
                checkpoint=shlex.quote(str(CHECKPOINT)), root=shlex.quote(str(ROOT))
            )
            shown = step.command.format(checkpoint="g4cli/data/tiny", root=".")
            print(f"\n{DIM}# {step.why}{PLAIN}\n{BOLD}$ {shown}{PLAIN}", flush=True)
            code = subprocess.run(
                typed, shell=True, cwd=folder, env=env, stdin=subprocess.DEVNULL, check=False
            ).returncode
            if code != step.exit_code:
                print(f"\ndemo: exit code {code}, expected {step.exit_code}", file=sys.stderr)
                return 1
            if code:
                print(f"{DIM}(exit code {code}, as expected){PLAIN}")
    print(
        f"\n{BOLD}That was g4: {len(STEPS)} commands in {time.monotonic() - started:.0f} s.{PLAIN}"
    )
    print("Your turn:  . .venv/bin/activate  then  g4 pull tiny  and  g4 chat tiny")
    print("A real one: g4 fit e2b            then  g4 pull e2b   and  g4 chat e2b")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How long a running answer pauses while images and sounds of others are encoded.

    python tests/bench/bench_encoder.py FILE MMPROJ [--threads N]

Prints one JSON document: for an image and for 29 s of sound, the milliseconds until the turn with
it answers, the median and the longest pause between two tokens of another answer meanwhile, and its
median pause when nothing else runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.chat import PromptRead, TurnOptions
from g4cli.prompt.messages import Media, Part
from g4cli.runtime.engine.async_client import AsyncEngine
from g4cli.runtime.engine.drafting import DraftChoice
from g4cli.runtime.engine.messages import Open, RunTurn
from g4cli.runtime.engine.options import ContextOptions, MediaOptions, ModelOptions, Sampling
from tests.support.builders.media_files import picture, png, sound, wav

ENDLESS = Sampling(temp=9, top_k=64, top_p=1, seed=1, ignore_eos=True)


async def measure(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    context = ContextOptions(4096, n_threads=args.threads, n_parallel=2)
    request = Open(args.file, ModelOptions(), context, DraftChoice("off", "not asked for"))
    options = TurnOptions(max_tokens=1, on_loop="ignore")
    found: dict[str, dict[str, float]] = {}
    files = {"image": png(picture(1024, 768)), "audio": wav(sound(16000 * 29))}
    async with await AsyncEngine.start(request, MediaOptions(args.mmproj)) as engine:
        for kind in ("image", "audio"):
            path = folder / kind
            path.write_bytes(files[kind])
            times: list[float] = []

            async def answer(times: list[float] = times) -> None:
                prompt = await engine.tokens_of([Part("Tell me a story.")])
                turn = RunTurn(prompt, ENDLESS, TurnOptions(on_loop="ignore"))
                async with aclosing(engine.run_turn(turn)) as events:
                    async for _ in events:
                        times.append(time.perf_counter())

            reading = asyncio.create_task(answer())
            while len(times) < 100:
                await asyncio.sleep(0.01)
            alone = [b - a for a, b in pairwise(times[5:])]
            started = time.perf_counter()
            prompt = await engine.tokens_of([Part("", media=Media(kind, path)), Part("What?")])  # type: ignore[arg-type]
            async with aclosing(engine.run_turn(RunTurn(prompt, ENDLESS, options))) as events:
                async for event in events:
                    if isinstance(event, PromptRead):
                        break
            ended = time.perf_counter()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            pauses = [b - a for a, b in pairwise(times) if b >= started and a <= ended]
            found[kind] = {
                "until_answered_ms": (ended - started) * 1e3,
                "median_pause_ms": statistics.median(pauses) * 1e3,
                "longest_pause_ms": max(pauses) * 1e3,
                "median_alone_ms": statistics.median(alone) * 1e3,
                "tokens_meanwhile": len(pauses),
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("mmproj", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(args, Path(folder))), indent=1))


if __name__ == "__main__":
    main()

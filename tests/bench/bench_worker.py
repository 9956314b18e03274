"""Measure the cost of the worker process: pipe per event, first token, decoding speed, start.

    python tests/bench/bench_worker.py FILE [--tokens 64] [--prompt 512] [--rounds 3] [--threads N]

FILE is a model, preferably of a real shape (`python -m tests.support.builders.real_shapes e2b q4_0
FILE --weights random`). "One process" is LlamaEngine in this process. It and a worker process
answer the same prompt in turn; the best rounds count. Prints one JSON document:

    file              the name of FILE
    decode_tps        tokens per second after the prompt, of one process and of a worker process
    decode_ratio      the worker process's tokens per second, divided by those of one process
    first_token_ms    from the call to the first text: the worker process's time minus the other's
    pipe_us           time to write, read and decode one event, without a model
    start_ms          from the start of the worker process to a loaded model
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.chat import Finished, TurnOptions, run_turn
from g4cli.prompt.messages import Part
from g4cli.prompt.reply import AnswerText, ThoughtText
from g4cli.runtime.engine.client import EngineClient
from g4cli.runtime.engine.codec import FrameReader, write_all
from g4cli.runtime.engine.drafting import DraftChoice
from g4cli.runtime.engine.llama_engine import LlamaEngine, open_engine
from g4cli.runtime.engine.messages import CODEC, Open, RunTurn
from g4cli.runtime.engine.options import ContextOptions, ModelOptions, Sampling

# A choice: room for the prompt and the answer.
N_CTX: Final = 4096
# Every answer has --tokens tokens, also where the model would end it earlier.
SAMPLING: Final = Sampling(temp=0, ignore_eos=True)
ONE, WORKER = "one process", "worker process"


def pipe_us(count: int = 20_000) -> float:
    """Return the microseconds to write an event to a pipe and read it, in this process."""
    reading, writing = os.pipe()
    frames = FrameReader(reading)
    started = time.perf_counter()
    for _ in range(count):
        write_all(writing, CODEC.encode(1, AnswerText(" token")))
        while (frame := frames.take_frame()) is None:
            frames.read_more()
        CODEC.decode(frame)
    return (time.perf_counter() - started) / count * 1e6


def measure_answer(events: Iterable[object]) -> tuple[float, float]:
    """Return the seconds to the first text of the answer, and tokens per second after the prompt.

    Tokens are counted, not events: a token that holds part of a character has no event. The time of
    the prompt is the engine's, since events may wait in the pipe while this process does not run.
    """
    started = time.perf_counter()
    first_s, reply = None, None
    for event in events:
        if first_s is None and isinstance(event, AnswerText | ThoughtText):
            first_s = time.perf_counter() - started
        elif isinstance(event, Finished):
            reply = event.reply
    if first_s is None or reply is None:
        raise SystemExit("an answer without text has no speed: give another --prompt or --tokens")
    decode_s = time.perf_counter() - started - reply.prompt_s
    return first_s, reply.completion_tokens / decode_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of a prompt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as g4 chooses")
    args = parser.parse_args()
    if min(args.tokens, args.prompt, args.rounds) < 1:
        parser.error("--tokens, --prompt and --rounds must be 1 or more")
    if args.prompt + args.tokens > N_CTX:
        parser.error(f"--prompt and --tokens may be {N_CTX} together")
    context = ContextOptions(N_CTX, n_threads=args.threads)
    options = TurnOptions(max_tokens=args.tokens, on_loop="ignore")
    started = time.perf_counter()
    client = EngineClient()
    client.open(Open(args.file, ModelOptions(), context, DraftChoice("off", "not asked for")))
    start_s = time.perf_counter() - started
    rounds: dict[str, list[tuple[float, float]]] = {ONE: [], WORKER: []}

    def answer_here(engine: LlamaEngine, prompt: list[int]) -> tuple[float, float]:
        engine.begin(SAMPLING)
        return measure_answer(run_turn(engine, prompt, options))

    with (
        client,
        open_engine(args.file, model_options=ModelOptions(), context_options=context) as engine,
    ):
        for turn in range(args.rounds + 1):
            # Another beginning each time: nothing of the prompt is in memory already.
            text = f"{turn} " + "word " * (args.prompt * 2)
            prompt = engine.prompts.tokens_of([Part(text)])[: args.prompt]
            for name in (ONE, WORKER) if turn % 2 else (WORKER, ONE):
                if name == ONE:
                    found = answer_here(engine, prompt)
                else:
                    request = RunTurn(tuple(prompt), SAMPLING, options)
                    found = measure_answer(client.run_turn(request))
                if turn:  # the first warms up
                    rounds[name].append(found)
    # The best of the rounds: whatever else the machine does can only take time away.
    rates = [max(rate for _, rate in rounds[name]) for name in rounds]
    firsts = [min(first for first, _ in rounds[name]) for name in rounds]
    print(
        json.dumps(
            {
                "file": args.file.name,
                "decode_tps": {ONE: round(rates[0], 3), WORKER: round(rates[1], 3)},
                "decode_ratio": round(rates[1] / rates[0], 4),
                "first_token_ms": round((firsts[1] - firsts[0]) * 1000, 2),
                "pipe_us": round(pipe_us(), 2),
                "start_ms": round(start_s * 1000),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
